// Light, dark or as the system says; the choice stays in this browser.
const order = ['system', 'light', 'dark']

export function themeButton(button) {
  let current = order.indexOf(localStorage.getItem('theme') ?? 'system')
  const show = () => {
    const name = order[current] ?? 'system'
    if (name === 'system') delete document.documentElement.dataset.theme
    else document.documentElement.dataset.theme = name
    button.textContent = `Theme: ${name}`
  }
  button.addEventListener('click', () => {
    current = (current + 1) % order.length
    localStorage.setItem('theme', order[current])
    show()
  })
  show()
}
