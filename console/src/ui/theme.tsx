import { effect, signal } from '@preact/signals'

const THEMES = ['auto', 'light', 'dark'] as const
type Theme = (typeof THEMES)[number]
const NAME = 'walcast.theme'

function stored(): Theme {
  try {
    return THEMES.find((theme) => theme === localStorage.getItem(NAME)) ?? 'auto'
  } catch {
    return 'auto'
  }
}

const theme = signal<Theme>(stored())
/** Grows when colours change, for what draws them itself. */
export const colours = signal(0)

effect(() => {
  const { value } = theme
  if (value === 'auto') delete document.documentElement.dataset.theme
  else document.documentElement.dataset.theme = value
  colours.value = colours.peek() + 1
})
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => colours.value++)

export function ThemeButton() {
  const next = (): void => {
    theme.value = THEMES[(THEMES.indexOf(theme.value) + 1) % THEMES.length]!
    try {
      localStorage.setItem(NAME, theme.value)
    } catch {
      // It holds until the page is closed.
    }
  }
  return (
    <button type="button" class="icon" aria-label={`Colours: ${theme.value}`} title={`Colours: ${theme.value}`} onClick={next}>
      {theme.value === 'auto' ? '◐' : theme.value === 'light' ? '☀' : '☾'}
    </button>
  )
}
