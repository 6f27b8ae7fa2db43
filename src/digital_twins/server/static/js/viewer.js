// NiiVue viewer: baseline image, measured lesion, predicted tumour as a 4-D label volume (one frame a day).
import { byId, h, number } from './dom.js'

const VIEWS = [['Planes', 3], ['Axial', 0], ['Coronal', 1], ['Sagittal', 2], ['3D', 4]]
const solid = (r, g, b) => ({ R: [0, r, r], G: [0, g, g], B: [0, b, b], A: [0, 255, 255], I: [0, 1, 255] })

export class TwinViewer {
  constructor(twin) {
    this.twin = twin
    this.base = `/api/twins/${encodeURIComponent(twin.twin_id)}`
    this.query = `version=${twin.version}`
    this.frame = 0
    this.predicted = null
    this.busy = Promise.resolve()
  }

  async start() {
    if (!document.createElement('canvas').getContext('webgl2') || !window.niivue) {
      this.fallback('This browser offers no WebGL 2, which the image viewer needs. Every number on this page stays readable.')
      return
    }
    const nv = new window.niivue.Niivue({
      backColor: [0.02, 0.03, 0.045, 1], show3Dcrosshair: true, crosshairColor: [1, 0.85, 0.4, 0.55], crosshairWidth: 0.75,
      isRadiologicalConvention: true, multiplanarForceRender: true, isColorbar: false, dragAndDropEnabled: false,
      logLevel: 'error', loadingText: 'loading', fontColor: [0.8, 0.86, 0.9, 1], multiplanarShowRender: 1, textHeight: 0.035,
    })
    this.nv = nv
    await nv.attachToCanvas(byId('canvas'))
    nv.addColormap('twin-predicted', solid(255, 138, 61))
    const { window_low: low, window_high: high } = this.twin.image
    await nv.loadVolumes([
      { url: `${this.base}/image.nii.gz?${this.query}`, name: 'image.nii.gz', colormap: 'gray', cal_min: low, cal_max: high },
    ])
    await nv.loadDrawingFromUrl(`${this.base}/lesion.nii.gz?${this.query}`, true)
    nv.setDrawColormap({ R: [0, 43], G: [0, 212], B: [0, 192], A: [0, 255], I: [0, 1], labels: ['', 'measured'] })
    nv.drawRimOpacity = 1
    nv.setSliceType(VIEWS[0][1])
    this.controls()
    this.home()
  }

  fallback(text) {
    const note = byId('stage-fallback')
    note.textContent = text
    note.hidden = false
  }

  controls() {
    const nv = this.nv
    byId('views').append(...VIEWS.map(([name, type], index) => h('label', {},
      h('input', { type: 'radio', name: 'view', value: type, checked: index === 0, onchange: () => nv.setSliceType(type) }), name)))
    for (const id of ['show-measured', 'show-predicted', 'opacity']) byId(id).addEventListener('input', () => this.opacity())
    const [, , , slices] = nv.volumes[0].dimsRAS
    const slice = byId('slice')
    slice.max = slices - 1
    slice.addEventListener('input', () => this.move([0, 0, Number(slice.value) - this.voxel()[2]]))
    nv.onLocationChange = () => this.located()
    byId('canvas').addEventListener('keydown', (event) => this.key(event), true)
  }

  voxel() {
    return this.nv.frac2vox(this.nv.scene.crosshairPos)
  }

  move([x, y, z]) {
    this.nv.moveCrosshairInVox(x, y, z)
    this.located()
  }

  key(event) {
    const step = event.shiftKey ? 10 : 1
    const moves = { ArrowLeft: [-step, 0, 0], ArrowRight: [step, 0, 0], ArrowUp: [0, step, 0], ArrowDown: [0, -step, 0], PageUp: [0, 0, 1], PageDown: [0, 0, -1] }
    if (event.key === 'Home') this.home()
    else if (moves[event.key]) this.move(moves[event.key])
    else return
    event.preventDefault()
    event.stopPropagation()
  }

  home() {
    this.nv.scene.crosshairPos = this.nv.mm2frac(this.twin.image.lesion_centroid_mm)
    this.nv.drawScene()
    this.located()
  }

  located() {
    const voxel = this.voxel()
    const slice = byId('slice')
    slice.value = voxel[2]
    slice.setAttribute('aria-valuetext', `slice ${voxel[2] + 1} of ${Number(slice.max) + 1}`)
    const mm = this.nv.frac2mm(this.nv.scene.crosshairPos)
    byId('location').textContent = `slice ${voxel[2] + 1}/${Number(slice.max) + 1} · R ${number(-mm[0], 4)}  A ${number(mm[1], 4)}  S ${number(mm[2], 4)} mm`
  }

  opacity() {
    const level = Number(byId('opacity').value)
    const measured = byId('show-measured').checked
    this.nv.drawRimOpacity = measured ? 1 : 0
    this.nv.setDrawOpacity(measured ? 0.02 : 0)
    if (this.predicted) this.nv.setOpacity(this.nv.volumes.indexOf(this.predicted), byId('show-predicted').checked ? level : 0)
  }

  scenario(key) {
    if (!this.nv) return this.busy
    this.busy = this.busy.then(async () => {
      if (this.predicted) this.nv.removeVolume(this.predicted)
      this.predicted = null
      await this.nv.addVolumeFromUrl({ url: `${this.base}/predicted.nii.gz?treatment=${encodeURIComponent(key)}&${this.query}`, name: 'predicted.nii.gz', colormap: 'twin-predicted', cal_min: 0.5, cal_max: 1, opacity: 0.5 })
      this.predicted = this.nv.volumes.at(-1)
      this.shown = key
      this.opacity()
      this.day(this.frame)
    }).catch(() => this.fallback('The predicted tumour could not be loaded.'))
    return this.busy
  }

  day(frame) {
    this.frame = frame
    if (!this.predicted) return
    this.nv.setFrame4D(this.predicted.id, frame)
    byId('canvas').dataset.shown = `${this.shown}/${frame}`
  }
}
