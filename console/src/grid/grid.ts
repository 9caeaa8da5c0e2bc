import { brief, lookOf } from '../text/format.js'
import type { Order } from '../text/url.js'
import { isSecond } from '../ui/keys.js'
import { Lines } from './lines.js'
import { FADE_MS, type Item, type Mark, type Row, type RowChange, Rows, type Shape } from './rows.js'

export interface GridOptions {
  readonly label: string
  readonly open: (item: Item) => void
  readonly sort: (order: Order) => void
  /** Something about the view changed: counts, the pause. At most once for each picture. */
  readonly changed: () => void
}

const SIGNS: Readonly<Record<Mark, string>> = { in: '+', change: '~', out: '−' }
const WORDS: Readonly<Record<Mark, string>> = { in: 'came', change: 'changed', out: 'left' }
/** Widths are in characters. */
const [LEAST, MOST] = [4, 44]
const isNumber = (type: string): boolean => /^(smallint|integer|bigint|numeric|real|double precision|oid|money)/.test(type) && !type.endsWith(']')

/** A line's elements, so that none has to be looked for. */
interface Line {
  readonly sign: HTMLElement
  readonly cells: { readonly element: HTMLElement; readonly text: Text; shown: string; look: string; fade: Animation | undefined }[]
  item: Item | undefined
  /** The turn of the item that is shown. */
  turn: number
  mark: Mark | undefined
  signFade: Animation | undefined
  isActive: boolean
}

/** The table of a live result: a grid for people and for screen readers, without a framework. */
export class Grid {
  readonly rows = new Rows()
  readonly element: HTMLElement
  readonly #head: HTMLElement
  readonly #body: HTMLElement
  readonly #lines: Lines
  readonly #parts = new WeakMap<HTMLElement, Line>()
  readonly #options: GridOptions
  readonly #coarse = matchMedia('(pointer: coarse)')
  readonly #calm = matchMedia('(prefers-reduced-motion: reduce)')
  #widths: number[] = []
  #height = 28
  /** The row and column that keys act on; row -1 is the head. */
  #active: { id: string | undefined; column: number } = { id: undefined, column: 0 }
  /** Where the active row was when it was last drawn. */
  #activeIndex = 0
  #activeLine: HTMLElement | undefined
  #sweeper: ReturnType<typeof setTimeout> | undefined
  #isPart = false

  constructor(options: GridOptions) {
    this.#options = options
    const grid = (this.element = element('div', 'grid'))
    set(grid, { role: 'grid', tabindex: '0', 'aria-label': options.label, 'aria-rowcount': '1', 'aria-readonly': 'true' })
    this.#head = element('div', 'grid-head', grid)
    set(this.#head, { role: 'row', 'aria-rowindex': '1' })
    this.#body = element('div', 'grid-body', grid)
    this.#body.setAttribute('role', 'rowgroup')
    this.#lines = new Lines({ scroller: grid, body: this.#body, height: () => this.#height, make: () => this.#make(), fill: (line, index) => this.#fill(line, index), hide: (line) => this.#hide(line) })
    this.#lines.before = () => this.#before()
    grid.addEventListener('keydown', (event) => this.#key(event))
    grid.addEventListener('click', (event) => this.#click(event))
    this.#measure()
    this.#coarse.addEventListener('change', this.#measured)
  }

  get active(): Item | undefined {
    return this.#active.id === undefined ? undefined : this.rows.get(this.#active.id)
  }

  /** The value that the active cell shows. */
  get activeValue(): unknown {
    const column = this.rows.shape.columns[this.#active.column]
    return column && this.active?.row[column.name]
  }

  /** Begins anew. With `isPart` these are some of the rows, and nobody knows yet of how many. */
  reset(shape: Shape, rows: readonly { readonly key: unknown; readonly row: Row }[], isPart = false): void {
    this.#isPart = isPart
    this.element.ariaBusy = isPart ? 'true' : null
    const isSame = JSON.stringify(shape.columns) === JSON.stringify(this.rows.shape.columns)
    this.rows.reset(shape, rows)
    if (!isSame) {
      this.#active = { id: undefined, column: 0 }
      this.element.scrollTop = this.element.scrollLeft = 0
      this.#body.replaceChildren()
      this.#clear()
      this.#widths = shape.columns.map(({ name }) => Math.max(LEAST, name.length + 2))
      this.#drawHead()
    }
    this.#widen(0, 200)
    this.#changed()
  }

  apply(changes: readonly RowChange[]): void {
    this.rows.apply(changes, performance.now())
    if (this.rows.isPaused) this.#options.changed()
    else this.#changed()
  }

  sortBy(order: Order): void {
    this.rows.sortBy(order)
    this.#drawHead()
    this.#changed()
  }

  pause(): void {
    this.rows.pause()
    this.#options.changed()
  }

  resume(): void {
    this.rows.resume(performance.now())
    this.#changed()
  }

  /** Moves the active row by so many lines. */
  move(by: number): void {
    const at = this.#active.id === undefined ? -1 : this.rows.indexOf(this.#active.id)
    this.#activate(Math.max(0, Math.min(this.rows.length - 1, at < 0 ? (by > 0 ? this.#lines.seen[0] : this.rows.length - 1) : at + by)))
  }

  end(): void {
    this.#lines.end()
    this.#coarse.removeEventListener('change', this.#measured)
    clearTimeout(this.#sweeper)
  }

  #measure(): void {
    this.#height = this.#coarse.matches ? 34 : 28
    this.element.style.setProperty('--row', `${this.#height}px`)
  }

  readonly #measured = (): void => {
    this.#measure()
    this.#clear()
    this.#lines.redraw()
  }

  #clear(): void {
    this.#lines.clear()
    this.#activeLine = undefined
    this.element.removeAttribute('aria-activedescendant')
  }

  #changed(): void {
    this.#lines.redraw()
    if (this.rows.isLeaving) this.#sweeper ??= setTimeout(() => this.#sweep(), FADE_MS / 3)
  }

  #sweep(): void {
    this.#sweeper = undefined
    if (!this.rows.isPaused) this.rows.sweep(performance.now())
    this.#changed()
  }

  #before(): void {
    this.#lines.count = this.rows.length
    const count = this.#isPart ? '-1' : String(this.rows.count + 1)
    if (this.element.ariaRowCount !== count) this.element.ariaRowCount = count
    const [from, to] = this.#lines.seen
    this.#widen(from, to)
    this.#options.changed()
    const { id } = this.#active
    if (id === undefined) return
    const at = this.rows.indexOf(id)
    if (at >= 0) this.#activeIndex = at
    else {
      // The row has left: keys go on from the one in its place, without moving the view.
      this.#active.id = this.rows.at(Math.min(this.#activeIndex, this.rows.length - 1))?.id
      this.#lines.redraw()
    }
  }

  #drawHead(): void {
    const { columns } = this.rows.shape
    const { by, desc } = this.rows.order
    const head = this.#head
    head.replaceChildren()
    const gutter = element('span', 'gutter', head)
    set(gutter, { role: 'columnheader', 'aria-colindex': '1' })
    element('span', 'unseen', gutter).textContent = 'change'
    this.element.setAttribute('aria-colcount', String(columns.length + 1))
    columns.forEach(({ name, type }, i) => {
      const cell = element('span', isNumber(type) ? 'cell right' : 'cell', head)
      const isSorted = (typeof by === 'object' && by.column === name) || (by === 'key' && this.rows.shape.key[0] === name)
      set(cell, { role: 'columnheader', id: `column-${i}`, 'aria-colindex': String(i + 2), title: `${name}: ${type}`, 'data-column': String(i), 'aria-sort': isSorted ? (desc ? 'descending' : 'ascending') : 'none' })
      cell.append(name)
      if (isSorted) element('span', 'arrow', cell).textContent = desc ? '↓' : '↑'
    })
    this.#setWidths()
  }

  /** Makes columns as wide as what these rows hold; they never get narrower, since that would jump. */
  #widen(from: number, to: number): void {
    let isWider = false
    const { columns } = this.rows.shape
    for (let at = from; at < to; at++) {
      const row = this.rows.at(at)?.row
      if (!row) break
      columns.forEach(({ name }, i) => {
        if (this.#widths[i]! >= MOST) return
        const length = Math.min(MOST, brief(row[name], MOST).length)
        if (length <= this.#widths[i]!) return
        this.#widths[i] = length
        isWider = true
      })
    }
    if (isWider) this.#setWidths()
  }

  #setWidths(): void {
    const widths = this.#widths.map((characters) => `calc(${characters}ch + 20px)`)
    this.element.style.setProperty('--columns', `26px ${widths.join(' ')} minmax(0, 1fr)`)
  }

  #make(): HTMLElement {
    const line = element('div', 'line')
    line.setAttribute('role', 'row')
    const sign = element('span', 'gutter', line)
    set(sign, { role: 'gridcell', 'aria-colindex': '1' })
    const cells = this.rows.shape.columns.map(({ type }, i) => {
      const cell = element('span', isNumber(type) ? 'cell right' : 'cell', line)
      set(cell, { role: 'gridcell', 'aria-colindex': String(i + 2), 'data-column': String(i) })
      const text = document.createTextNode('')
      cell.append(text)
      return { element: cell, text, shown: '', look: '', fade: undefined }
    })
    this.#parts.set(line, { sign, cells, item: undefined, turn: 0, mark: undefined, signFade: undefined, isActive: false })
    return line
  }

  #fill(element: HTMLElement, index: number): void {
    const line = this.#parts.get(element)!
    const item = this.rows.at(index)!
    const isOther = line.item !== item
    const isActive = item.id === this.#active.id
    if (isActive || line.isActive) this.#mark(element, line, isActive)
    if (element.ariaRowIndex !== String(index + 2)) element.ariaRowIndex = String(index + 2)
    if (!isOther && line.turn === item.turn && line.mark === item.mark) return
    line.item = item
    line.turn = item.turn
    line.mark = item.mark
    const age = performance.now() - item.at
    const isFresh = item.mark !== undefined && age < FADE_MS
    const { columns, key } = this.rows.shape
    const isTooLarge = Object.keys(item.row).length <= key.length && columns.length > key.length
    for (let i = 0; i < columns.length; i++) {
      const { name } = columns[i]!
      const cell = line.cells[i]!
      const value = item.row[name]
      const look = lookOf(value)
      const shown = look === 'plain' ? brief(value) : look === 'null' ? 'null' : look === 'empty' ? "''" : isTooLarge ? 'too large' : 'not sent'
      if (cell.shown !== shown) cell.text.data = cell.shown = shown
      if (cell.look !== look) cell.element.dataset.look = cell.look = look
      if (isOther || isFresh) {
        cell.fade?.cancel()
        cell.fade = undefined
      }
      const isChanged = isFresh && item.mark === 'change' && item.changed.has(name)
      if (isChanged && !this.#calm.matches) cell.fade = fade(cell.element, '--change-soft', age)
      cell.element.toggleAttribute('data-changed', isChanged && this.#calm.matches)
    }
    this.#sign(line, item, isFresh, age, isOther)
    element.dataset.mark = isFresh ? item.mark : ''
  }

  /** The sign in the gutter stays: what happened to the row last. */
  #sign(line: Line, { mark }: Item, isFresh: boolean, age: number, isOther: boolean): void {
    const { sign } = line
    const text = mark ? SIGNS[mark] : ''
    if (sign.textContent !== text) {
      sign.textContent = text
      if (mark) sign.ariaLabel = WORDS[mark]
      else sign.removeAttribute('aria-label')
    }
    sign.dataset.mark = mark ?? ''
    if (isOther || isFresh) {
      line.signFade?.cancel()
      line.signFade = undefined
    }
    if (isFresh && !this.#calm.matches) line.signFade = fade(sign, `--${mark}-soft`, age)
  }

  #hide(element: HTMLElement): void {
    const line = this.#parts.get(element)!
    if (line.isActive) this.#mark(element, line, false)
  }

  #mark(element: HTMLElement, line: Line, isActive: boolean): void {
    line.isActive = isActive
    element.toggleAttribute('data-active', isActive)
    element.ariaSelected = isActive ? 'true' : null
    line.cells.forEach((cell, i) => {
      const isCell = isActive && i === this.#active.column
      cell.element.toggleAttribute('data-cell', isCell)
      if (isCell) cell.element.id = 'active-cell'
      else cell.element.removeAttribute('id')
    })
    if (isActive) {
      this.#activeLine = element
      this.element.setAttribute('aria-activedescendant', 'active-cell')
    } else if (this.#activeLine === element) {
      // Nothing is to be named that has no element; a line that becomes the active one says so itself.
      this.#activeLine = undefined
      this.element.removeAttribute('aria-activedescendant')
    }
  }

  #activate(index: number, column = this.#active.column): void {
    const item = this.rows.at(index)
    this.#active = { id: item?.id, column }
    this.#activeIndex = Math.max(0, index)
    if (item) this.#lines.reveal(index)
    this.#lines.redraw()
    const cell = this.#head.children[column + 1] as HTMLElement | undefined
    if (cell) this.#revealColumn(cell)
  }

  #revealColumn({ offsetLeft, offsetWidth }: HTMLElement): void {
    const { element } = this
    if (offsetLeft < element.scrollLeft + 26) element.scrollLeft = offsetLeft - 26
    else if (offsetLeft + offsetWidth > element.scrollLeft + element.clientWidth) element.scrollLeft = offsetLeft + offsetWidth - element.clientWidth
  }

  #key(event: KeyboardEvent): void {
    if (event.ctrlKey || event.metaKey || event.altKey || isSecond(event)) return
    const { columns } = this.rows.shape
    const [first, end] = this.#lines.seen
    const at = this.#active.id === undefined ? -1 : this.rows.indexOf(this.#active.id)
    const { column } = this.#active
    const across = (to: number): void => this.#activate(at, Math.max(0, Math.min(columns.length - 1, to)))
    switch (event.key) {
      case 'ArrowDown': case 'j': this.move(1); break
      case 'ArrowUp': case 'k': this.move(-1); break
      case 'PageDown': this.move(Math.max(1, end - first - 1)); break
      case 'PageUp': this.move(-Math.max(1, end - first - 1)); break
      case 'Home': event.shiftKey ? across(0) : this.#activate(0); break
      case 'End': event.shiftKey ? across(columns.length) : this.#activate(this.rows.length - 1); break
      case 'ArrowRight': across(column + 1); break
      case 'ArrowLeft': across(column - 1); break
      case 's': this.#sortBy(column); break
      case 'Enter': if (this.active) this.#options.open(this.active); break
      default: return
    }
    event.preventDefault()
    event.stopPropagation()
  }

  #click({ target }: MouseEvent): void {
    const cell = (target as HTMLElement).closest<HTMLElement>('[data-column], .gutter')
    const line = cell?.parentElement
    const column = Number(cell?.dataset.column ?? 0)
    if (line === this.#head) return cell?.dataset.column === undefined ? undefined : this.#sortBy(column)
    const item = line && this.#parts.get(line)?.item
    if (!item) return
    this.#activate(this.rows.indexOf(item.id), column)
    this.#options.open(item)
  }

  #sortBy(at: number): void {
    const { columns, key } = this.rows.shape
    const name = columns[at]?.name
    if (name === undefined) return
    const { by, desc } = this.rows.order
    const isKey = key.length === 1 && key[0] === name
    const isSorted = isKey ? by === 'key' : typeof by === 'object' && by.column === name
    this.#options.sort({ by: isKey ? 'key' : { column: name }, desc: isSorted && !desc })
  }
}

function element(name: string, className: string, parent?: HTMLElement): HTMLElement {
  const made = document.createElement(name)
  made.className = className
  parent?.append(made)
  return made
}

function set(element: HTMLElement, attributes: Readonly<Record<string, string>>): void {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value)
}

const fade = (element: HTMLElement, colour: string, age: number): Animation =>
  element.animate([{ backgroundColor: `var(${colour})` }, { backgroundColor: 'transparent' }], { duration: FADE_MS, delay: -age, easing: 'ease-in' })
