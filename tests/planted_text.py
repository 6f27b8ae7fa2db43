"""Clinical sentences with identifiers planted in them, and the clinical terms that must stay."""

from __future__ import annotations

import random
from dataclasses import dataclass

from digital_twins.governance import KnownIdentifiers

GIVEN = [
    "Aurelia",
    "Benedikt",
    "Chidi",
    "Dorothea",
    "Émile",
    "Fiona",
    "Giancarlo",
    "Haruka",
    "Ingrid",
    "Jamal",
]
FAMILY = ["Lindström", "O'Brien", "Okonkwo", "Vanderberg", "Castellano", "Whitfield", "Nakamura", "Zielinski"]
STRANGERS = ["Kowalczyk", "Abernathy", "Fairweather", "Delacroix", "Montgomery", "Stavros", "Quigley"]
CLINICAL = [
    *(
        "Hodgkin lymphoma",
        "Crohn disease",
        "Parkinson disease",
        "Gleason 4+3=7",
        "Karnofsky 90",
        "ECOG 1",
        "BI-RADS 4A",
    ),
    *(
        "T2N1M0",
        "stage IIIB",
        "60 Gy in 30 fractions",
        "HER2 3+",
        "BP 120/80 mmHg",
        "CA 15-3",
        "BRCA1",
        "Ki-67 25 %",
    ),
    *(
        "temozolomide 75 mg/m2",
        "2.3 x 1.8 cm",
        "Kerley B lines",
        "Baker cyst",
        "Ewing sarcoma",
        "Wilms tumour",
        "PSA 7.2",
    ),
    *(
        "Lung-RADS 3",
        "Karnofsky performance status",
        "Breslow 1.2 mm",
        "Fuhrman grade 2",
        "Child-Pugh B",
        "FOLFOX",
        "L4/L5",
    ),
    *(
        "Burkitt lymphoma",
        "EGFR exon 19 deletion",
        "hemoglobin 12.5 g/dL",
        "WBC 12500",
        "platelets 245000",
        "pH 7.38",
    ),
    *(
        "Raynaud phenomenon",
        "Virchow node",
        "Whipple procedure",
        "Doppler ultrasound",
        "NCT01234567",
        "SUVmax 11.4",
    ),
    *(
        "viral load 1500000 copies/mL",
        "Ann Arbor stage II",
        "Broca area",
        "62 years old",
        "5 mg twice daily",
        "IDH1 R132H",
    ),
    *(
        "Barrett oesophagus",
        "grade 3/4 neutropenia",
        "Alzheimer disease",
        "Cushing syndrome",
        "T1 post contrast",
        "Foley",
    ),
]
SENTENCES = [
    "{a} was found; {p} was noted at the visit, with {b}.",
    "Assessment: {a}. {p}. Plan: continue, watch {b}",
    "History of {a} and {b} ({p})",
    "- {p} - {a}, no change of {b}",
]
MONTHS = ["January", "March", "May", "August", "October", "December"]


@dataclass
class Note:
    """A text, what was planted (kind, value), and the terms that must stay."""

    text: str
    known: KnownIdentifiers
    planted: list[tuple[str, str]]
    terms: list[str]


def note(seed: int, sentences: int = 14) -> Note:
    """Return a note of one patient."""
    draw = random.Random(seed)
    given, family, doctor = draw.choice(GIVEN), draw.choice(FAMILY), draw.choice(FAMILY)
    mrn = f"{draw.randrange(10**6, 10**7)}"
    phone = f"{draw.randrange(201, 989)}-555-{draw.randrange(10**4):04d}"
    road = draw.choice(["Elm Street", "Harbour Rise", "Old Mill Quay", "Elm Quay"])
    street = f"{draw.randrange(1, 999)} {road}"
    known = KnownIdentifiers.of([f"{given} {family}", f"Dr. {doctor}, Anna"], [mrn, phone, street])
    forms = _forms(draw, known_parts=(given, family, doctor), values=(mrn, phone, street))
    parts, planted, terms = [], [], []
    for _ in range(sentences):
        kind, phrase, values = draw.choice(forms)()
        a, b = draw.sample(CLINICAL, 2)
        parts.append(draw.choice(SENTENCES).format(a=a, b=b, p=phrase))
        planted += [(kind, value) for value in values]
        terms += [a, b]
    return Note("\n".join(parts), known, planted, terms)


def _forms(draw, *, known_parts, values):
    given, family, doctor = known_parts
    mrn, phone, street = values
    stranger = lambda: draw.choice(STRANGERS)  # noqa: E731
    day, year = lambda: draw.randrange(1, 29), lambda: draw.randrange(2001, 2025)

    def date():
        d, m, y = day(), draw.randrange(12), year()
        month = draw.choice(MONTHS)
        text = draw.choice(
            [
                f"{y}-{m + 1:02d}-{d:02d}",
                f"{d:02d}/{m + 1:02d}/{y}",
                f"{m + 1}/{d}/{y}",
                f"{d}.{m + 1}.{y}",
                f"{d} {month} {y}",
                f"{month} {d}, {y}",
                f"{month[:3]} {d} {y}",
                f"{d}-{month[:3]}-{y}",
                f"{month} {d}th",
                f"{y}{m + 1:02d}{d:02d}",
                f"{m + 1:02d}/{d:02d}/{y % 100:02d}",
                f"{y}-{m + 1:02d}-{d:02d}T10:31:00Z",
                f"the {d}th of {month}",
                f"{month} {y}",
            ]
        )
        return "date", f"dated {text}", [text]

    def typo():
        i = draw.randrange(1, len(doctor) - 2)
        wrong = doctor[:i] + doctor[i + 1] + doctor[i] + doctor[i + 2 :]
        return "typo", f"{wrong} agrees", [wrong] if len(doctor) >= 7 and "'" not in doctor else []

    def told(kind, phrase, value):
        return lambda: (kind, phrase.format(value), [value])

    def number():
        value = f"{draw.choice('ABCX')}{draw.randrange(10**6, 10**7)}"
        return (
            "number",
            f"{draw.choice(['account number', 'policy no.', 'Serial #', 'accession:'])} {value}",
            [value],
        )

    def fresh(kind, phrase, make):
        def form():
            value = make()
            return kind, phrase.format(value), [value]

        return form

    area = lambda: draw.randrange(212, 989)  # noqa: E731
    return [
        date,
        date,
        date,
        typo,
        number,
        told("name", "{} feels well", given),
        told("name", "Ms. {} attended", family),
        told("name", "{}", f"{family}, {given}"),
        told("name", "pt {} reports pain", family.upper()),
        told("name", "seen with {}", f"{given[0]}. {family}"),
        told("name", "discussed with {}'s team", doctor),
        told("name", "{} consented", family.lower()),
        fresh("stranger", "Dr. {} agrees", stranger),
        fresh("stranger", "her daughter {} phoned", stranger),
        fresh("stranger", "electronically signed by {} MD", stranger),
        fresh("stranger", "referred by Prof. {}", stranger),
        fresh("stranger", "next of kin: {}", stranger),
        told("mrn", "MRN {}", mrn),
        told("mrn", "chart {} reviewed", mrn),
        told("phone", "call {}", phone),
        fresh("phone", "tel. {}", lambda: f"({area()}) {area()}-{draw.randrange(10**4):04d}"),
        fresh(
            "phone", "mobile {}", lambda: f"+44 20 {draw.randrange(7000, 8000)} {draw.randrange(1000, 9999)}"
        ),
        fresh("phone", "reach at {}", lambda: f"{area()}.{area()}.{draw.randrange(1000, 9999)}"),
        told("address", "lives at {}", street),
        fresh(
            "address",
            "moved to {}",
            lambda: f"{draw.randrange(1, 9999)} {draw.choice(['Maple', 'Oak Hill'])} Avenue",
        ),
        fresh("zip", "home in Boston, MA {}", lambda: f"{draw.randrange(10**4, 10**5)}"),
        fresh("email", "mail {}", lambda: f"{stranger().lower()}{draw.randrange(99)}@mail.example.org"),
        fresh("url", "portal https://{}", lambda: f"my.example.org/u/{draw.randrange(10**5)}"),
        fresh(
            "ip", "from {}", lambda: f"10.{draw.randrange(256)}.{draw.randrange(256)}.{draw.randrange(256)}"
        ),
        fresh("ssn", "SSN {}", lambda: f"{area()}-{draw.randrange(10, 99)}-{draw.randrange(1000, 9999)}"),
        fresh("age", "{}-year-old", lambda: f"{draw.randrange(91, 105)}"),
        fresh("age", "aged {}", lambda: f"{draw.randrange(91, 99)}"),
    ]
