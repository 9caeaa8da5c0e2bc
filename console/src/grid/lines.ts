/** The lines of a list that are to be seen, of however many: a pool of elements, moved by `transform`. */

/** Lines beyond the edge, so that scrolling shows no gap. */
const BEYOND = 4
const MOST = 120
/** Browsers cut off elements that are higher than about 33 million pixels. */
const HIGHEST = 30_000_000

export interface LinesOptions {
  /** The element that scrolls; its lines stand in `body`. */
  readonly scroller: HTMLElement
  readonly body: HTMLElement
  /** The height of a line in pixels. */
  readonly height: () => number
  readonly make: () => HTMLElement
  /** Shows item `index` in a line. `isNew`: the line showed another one before. */
  readonly fill: (line: HTMLElement, index: number, isNew: boolean) => void
  /** A line shows nothing any more. */
  readonly hide: (line: HTMLElement) => void
}

export class Lines {
  readonly #options: LinesOptions
  readonly #pool: { element: HTMLElement; item: number | undefined; top: number }[] = []
  readonly #watch: ResizeObserver
  #count = 0
  #frame = 0
  #isDirty = false
  /**
   * Items that have come at the top so far. A line stays with its item while others push it down: it moves, and is not
   * filled again.
   */
  #pushed = 0
  /** Called before each drawing. */
  before: (() => void) | undefined
  /** Called after each drawing. */
  after: (() => void) | undefined

  constructor(options: LinesOptions) {
    this.#options = options
    const { scroller } = options
    scroller.addEventListener('scroll', this.#scrolled, { passive: true })
    this.#watch = new ResizeObserver(() => this.redraw())
    this.#watch.observe(scroller)
  }

  set count(count: number) {
    if (count === this.#count) return
    this.#count = count
    this.#options.body.style.height = `${Math.min(HIGHEST, count * this.#options.height())}px`
  }

  get count(): number {
    return this.#count
  }

  /** The first line that is to be seen, and the one after the last. */
  get seen(): readonly [number, number] {
    const { scroller, height } = this.#options
    const first = Math.floor(scroller.scrollTop / height())
    return [first, Math.min(this.#count, first + Math.ceil(this.#room / height()))]
  }

  /** Brings a line into view. */
  reveal(index: number): void {
    const { scroller, height } = this.#options
    const [top, own] = [index * height(), height()]
    if (top < scroller.scrollTop) scroller.scrollTop = top
    else if (top + own > scroller.scrollTop + this.#room) scroller.scrollTop = top + own - this.#room
  }

  /** So many items came at the top. */
  push(added: number): void {
    this.#pushed += added
    this.#ask()
  }

  /** Draws with the next picture, and fills every line. */
  redraw(): void {
    this.#isDirty = true
    this.#ask()
  }

  /** Makes all lines anew. */
  clear(): void {
    for (const { element } of this.#pool) element.remove()
    this.#pool.length = 0
    this.#count = -1
  }

  end(): void {
    this.#watch.disconnect()
    cancelAnimationFrame(this.#frame)
    this.#options.scroller.removeEventListener('scroll', this.#scrolled)
  }

  readonly #scrolled = (): void => this.#ask()

  /** The height that lines are seen in: that of the scroller without what stands above the body. */
  get #room(): number {
    const { scroller, body } = this.#options
    return Math.max(0, scroller.clientHeight - body.offsetTop)
  }

  #ask(): void {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0
      this.#draw()
    })
  }

  #draw(): void {
    const { body, height, make, fill, hide } = this.#options
    this.before?.()
    const isDirty = this.#isDirty
    this.#isDirty = false
    const [first, end] = this.seen
    const from = Math.max(0, first - BEYOND)
    const to = Math.min(this.#count, end + BEYOND)
    const wanted = Math.min(MOST, Math.max(this.#pool.length, to - from))
    while (this.#pool.length < wanted) {
      const element = make()
      this.#pool.push({ element, item: undefined, top: -1 })
      body.append(element)
    }
    const size = this.#pool.length
    const pushed = this.#pushed
    for (let slot = 0; slot < size; slot++) {
      const line = this.#pool[slot]!
      // The one index in the window whose item this slot stands for, so that scrolling and what comes fill few lines.
      const index = from + ((((pushed - slot - from) % size) + size) % size)
      if (index >= to) {
        if (line.item !== undefined) {
          line.element.hidden = true
          hide(line.element)
        }
        line.item = undefined
        continue
      }
      const item = pushed - index
      const top = index * height()
      const isNew = line.item !== item
      if (line.item === undefined) line.element.hidden = false
      if (line.top !== top) line.element.style.transform = `translateY(${top}px)`
      line.item = item
      line.top = top
      if (isNew || isDirty) fill(line.element, index, isNew)
    }
    this.after?.()
  }
}
