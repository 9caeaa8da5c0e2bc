/** A panel that shows what a client does. For development: import it on purpose. */
import { type Client, type Connection, type Inspection, inspect } from '../index.js'

export interface MountOptions {
  /** Where the panel is put; the page's body unless said otherwise. */
  readonly target?: Element
  /** Whether it is open at first. */
  readonly open?: boolean
}

type Query = Inspection['queries'][number]
interface Frame {
  readonly number: number
  readonly at: number
  readonly type: 'sent' | 'received'
  readonly kind: string
  readonly text: string
  readonly size: number
}

const MOST_FRAMES = 500
const MOST_CHANGES = 100
/** Of a larger frame only the beginning is kept. */
const MOST_TEXT = 4000
const RENDER_MS = 250

const STYLE = `
:host { all: initial; position: fixed; right: 12px; bottom: 12px; z-index: 2147483000; font: 13px/1.4 system-ui, sans-serif; color-scheme: light dark;
  --back: light-dark(#fff, #1b1d22); --text: light-dark(#1b1d22, #e8e8ea); --dim: light-dark(#5b616e, #a3a8b4); --line: light-dark(#d8dae0, #3a3d46); --accent: light-dark(#0b5cad, #7db8ff); --bad: light-dark(#b3261e, #ff9d94) }
* { box-sizing: border-box; font: inherit; color: inherit }
button { background: none; border: 1px solid var(--line); border-radius: 4px; padding: 2px 8px; cursor: pointer }
button:hover { border-color: var(--accent) }
button[aria-pressed=true], button[aria-selected=true] { border-color: var(--accent); color: var(--accent) }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 1px }
.toggle, .panel { background: var(--back); color: var(--text); border: 1px solid var(--line); border-radius: 6px }
.panel { width: min(760px, calc(100vw - 24px)); height: min(460px, calc(100vh - 24px)); display: flex; flex-direction: column }
[hidden] { display: none !important }
header { display: flex; gap: 6px; flex-wrap: wrap; align-items: center; padding: 6px; border-bottom: 1px solid var(--line) }
header .status { margin-inline-end: auto }
main { overflow: auto; flex: 1; padding: 6px }
table { border-collapse: collapse; width: 100% }
th, td { text-align: start; padding: 3px 8px 3px 0; vertical-align: top; border-bottom: 1px solid var(--line); font-variant-numeric: tabular-nums }
th, .dim { color: var(--dim) }
code, pre { font: 12px/1.4 ui-monospace, monospace; overflow-wrap: anywhere; white-space: pre-wrap; margin: 0 }
.bad { color: var(--bad) }
summary { cursor: pointer }
`

/** Shows the panel of a client. Returns what takes it away. */
export function mount(client: Client<any>, { target = document.body, open = false }: MountOptions = {}): () => void {
  const panel = new Panel(client, open)
  target.append(panel.host)
  return () => panel.remove()
}

type Child = Node | string | false | undefined
/** An element. Texts are text, never markup. */
function element<K extends keyof HTMLElementTagNameMap>(name: K, attributes: Readonly<Record<string, string | boolean | (() => void)>> = {}, ...children: Child[]): HTMLElementTagNameMap[K] {
  const made = document.createElement(name)
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === 'function') made.addEventListener(key, value)
    else if (typeof value === 'boolean') made.toggleAttribute(key, value)
    else made.setAttribute(key, value)
  }
  made.append(...children.filter((child) => child !== false && child !== undefined))
  return made
}

const PAGES = ['Queries', 'Connection', 'Frames'] as const

class Panel {
  readonly host: HTMLElement = element('div', { 'data-walcast': '' })
  readonly #client: Client<any>
  readonly #inspection: Inspection
  readonly #ends: (() => void)[]
  readonly #frames: Frame[] = []
  readonly #changes: { readonly at: number; readonly text: string }[] = []
  readonly #open: Set<number> = new Set()
  #number = 0
  /** What came while the view stood still. */
  #missed = 0
  #isPaused = false
  #page: (typeof PAGES)[number] = 'Queries'
  /** From the commit of the last transaction until it came, by this machine's clock. */
  #lag: number | undefined
  #timer: ReturnType<typeof setTimeout> | undefined

  readonly #toggle: HTMLElement
  readonly #panel: HTMLElement
  readonly #status: HTMLElement = element('span', { class: 'status', role: 'status' })
  readonly #pause: HTMLElement
  readonly #tabs: readonly HTMLElement[]
  readonly #main: HTMLElement = element('main', { role: 'tabpanel', tabindex: '0' })

  constructor(client: Client<any>, isOpen: boolean) {
    this.#client = client
    const button = (text: string, click: () => void, more: Record<string, string> = {}): HTMLElement => element('button', { type: 'button', click, ...more }, text)
    this.#toggle = button('walcast', () => this.#show(true), { class: 'toggle' })
    this.#pause = button('Pause', () => this.#hold(!this.#isPaused), { 'aria-pressed': 'false' })
    this.#tabs = PAGES.map((page) => button(page, () => this.#turn(page), { role: 'tab' }))
    this.#panel = element(
      'section',
      { class: 'panel', 'aria-label': 'walcast' },
      element('header', {}, this.#status, element('span', { role: 'tablist' }, ...this.#tabs), this.#pause, button('Drop the socket', () => this.#inspection.drop()), button('Close', () => this.#show(false))),
      this.#main,
    )
    const root = this.host.attachShadow({ mode: 'open' })
    const sheet = new CSSStyleSheet()
    // Which a policy against inline styles allows.
    sheet.replaceSync(STYLE)
    root.adoptedStyleSheets = [sheet]
    root.append(this.#toggle, this.#panel)

    this.#inspection = inspect(client, (type, text) => this.#frame(type, text))
    this.#change(client.connection)
    this.#ends = [client.onConnection((now) => this.#change(now)), () => this.#inspection.end(), () => clearTimeout(this.#timer)]
    this.#show(isOpen)
    this.#turn('Queries')
  }

  remove(): void {
    for (const end of this.#ends) end()
    this.host.remove()
  }

  #show(isOpen: boolean): void {
    this.#panel.hidden = !isOpen
    this.#toggle.hidden = isOpen
    this.#render()
  }

  #turn(page: (typeof PAGES)[number]): void {
    this.#page = page
    this.#tabs.forEach((tab, i) => tab.setAttribute('aria-selected', String(PAGES[i] === page)))
    this.#render(true)
  }

  #hold(isPaused: boolean): void {
    this.#isPaused = isPaused
    this.#missed = 0
    this.#pause.setAttribute('aria-pressed', String(isPaused))
    this.#render(true)
  }

  #frame(type: Frame['type'], text: string): void {
    let frame: { type?: unknown; id?: unknown; ts?: unknown } = {}
    try {
      frame = JSON.parse(text) as typeof frame
    } catch {
      // It is shown as it is.
    }
    if (typeof frame.ts === 'string') this.#lag = Date.now() - Date.parse(frame.ts)
    const kind = `${String(frame.type ?? 'no JSON')}${typeof frame.id === 'string' ? ` ${frame.id}` : ''}`
    // A token is nobody's to see.
    const shown = frame.type === 'auth' ? '{"type":"auth","token":"…"}' : text.slice(0, MOST_TEXT)
    this.#frames.push({ number: ++this.#number, at: Date.now(), type, kind, text: shown, size: text.length })
    if (this.#frames.length > MOST_FRAMES) this.#open.delete(this.#frames.shift()!.number)
    this.#soon()
  }

  #change(now: Connection): void {
    const { name, ...rest } = now
    const error = 'error' in now ? now.error.message : undefined
    this.#changes.push({ at: Date.now(), text: `${name} ${error ?? (Object.keys(rest).length > 0 ? JSON.stringify(rest) : '')}`.trim() })
    if (this.#changes.length > MOST_CHANGES) this.#changes.shift()
    this.#soon()
  }

  #soon(): void {
    if (this.#isPaused) this.#missed++
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined
      this.#render()
    }, RENDER_MS)
  }

  #render(isAsked = false): void {
    if (this.#panel.hidden) return
    const { connection } = this.#client
    this.#status.textContent = `${connection.name}${this.#lag === undefined ? '' : `, ${this.#lag} ms behind at the last transaction`}${this.#isPaused ? `, ${this.#missed} changes while paused` : ''}`
    if (this.#isPaused && !isAsked) return
    // What one reads stays where it is.
    const { scrollTop } = this.#main
    const page = this.#page === 'Queries' ? this.#queries() : this.#page === 'Connection' ? this.#connection() : this.#list()
    this.#main.replaceChildren(page)
    this.#main.scrollTop = scrollTop
  }

  #queries(): Node {
    const { queries } = this.#inspection
    if (queries.length === 0) return element('p', { class: 'dim' }, 'No query is open: client.liveQuery({ table }).subscribe(…) opens one.')
    const head = ['Query', 'Status', 'Rows', 'Listeners', 'Complete up to', ''].map((text) => element('th', { scope: 'col' }, text))
    return element('table', {}, element('thead', {}, element('tr', {}, ...head)), element('tbody', {}, ...queries.map((query) => this.#query(query))))
  }

  #query(query: Query): HTMLElement {
    const { identity, fields, status, error, rows, listeners, place, at } = query
    const { table, where, params, columns, order_by, limit } = fields as { table: string; where?: string; params?: unknown; columns?: readonly string[]; order_by?: unknown; limit?: number }
    const command = tailCommand(this.#inspection.address, fields)
    const what = [columns && `${columns.join(', ')} of`, table, where && `where ${where}`, params && JSON.stringify(params), order_by && `the first ${limit} by ${JSON.stringify(order_by)}`]
    const copy = element('button', { type: 'button', title: command, click: () => void this.#copy(copy, command) }, 'Copy as walcast tail')
    return element(
      'tr',
      {},
      element('td', {}, element('code', {}, what.filter(Boolean).join(' ')), error && element('p', { class: 'bad' }, element('code', {}, error.message))),
      element('td', {}, status),
      element('td', {}, rows.toLocaleString('en')),
      element('td', {}, String(listeners)),
      element('td', { title: place ? `changed last at ${place.position}, epoch ${place.epoch}` : '' }, at ?? place?.position ?? ''),
      element('td', {}, copy, element('button', { type: 'button', click: () => this.#inspection.forget(identity) }, 'Forget the place')),
    )
  }

  async #copy(button: HTMLElement, text: string): Promise<void> {
    try {
      await navigator.clipboard.writeText(text)
      button.textContent = 'Copied'
    } catch {
      // Without the right to write there, it can be copied by hand.
      button.replaceWith(element('code', {}, text))
      this.#hold(true)
    }
  }

  #connection(): Node {
    const { address } = this.#inspection
    const lines = [...this.#changes].reverse().map(({ at, text }) => element('tr', {}, element('td', { class: 'dim' }, time(at)), element('td', {}, element('code', {}, text))))
    return element('div', {}, element('p', {}, element('code', {}, address)), element('table', {}, element('tbody', {}, ...lines)))
  }

  #list(): Node {
    const lines = [...this.#frames].reverse().map(({ number, at, type, kind, text, size }) => {
      const details: HTMLDetailsElement = element(
        'details',
        { open: this.#open.has(number), toggle: () => void (details.open ? this.#open.add(number) : this.#open.delete(number)) },
        element('summary', {}, element('code', {}, `${time(at)} ${type === 'sent' ? '→' : '←'} ${kind}, ${size.toLocaleString('en')} characters`)),
        element('pre', {}, text, size > text.length && text.length === MOST_TEXT && ' …'),
      )
      return details
    })
    return element('div', {}, ...lines)
  }
}

const time = (at: number): string => new Date(at).toISOString().slice(11, 23)

const quoted = (text: string): string => (/^[\w./:,-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`)

/** The command that prints the rows of a query, and its changes. */
function tailCommand(address: string, fields: Query['fields']): string {
  const { table, where, params = [], columns, undecided, limit } = fields as { table: string; where?: string; params?: readonly unknown[]; columns?: readonly string[]; undecided?: string; limit?: number }
  const url = new URL(address)
  url.search = ''
  const words = ['walcast', 'tail', table, '--url', url.href, '--snapshot']
  if (where !== undefined) words.push('--where', where)
  for (const param of params) words.push('--param-json', JSON.stringify(param))
  if (columns) words.push('--columns', columns.join(','))
  if (undecided !== undefined) words.push('--undecided', undecided)
  // It knows no order.
  return words.map(quoted).join(' ') + (limit === undefined ? '' : ` # all rows, not only the first ${limit}`)
}
