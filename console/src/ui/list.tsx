import { useSignal } from '@preact/signals'
import { useEffect, useRef } from 'preact/hooks'
import { Lines } from '../grid/lines.js'

export interface ListHandle {
  /** There are so many items now, of which so many are new and stand first. With `holds` what is seen stays, at the top, too. */
  set(count: number, added: number, holds: boolean): void
  redraw(): void
  reveal(index: number): void
  focus(): void
}

/** Says of a line whether it is the chosen one. */
export function markChosen(line: HTMLElement, isChosen: boolean): void {
  line.ariaSelected = String(isChosen)
  if (isChosen) line.id = 'chosen-line'
  else line.removeAttribute('id')
}

export interface ListProps {
  readonly label: string
  readonly handle: { current: ListHandle | undefined }
  /** The height of a line in pixels: with a mouse, and with a finger. */
  readonly height?: readonly [number, number]
  readonly make: () => HTMLElement
  readonly fill: (line: HTMLElement, index: number) => void
  readonly open: (index: number) => void
  readonly move: (by: number) => void
}

/** A list of which the newest item stands first. While it is scrolled down, it keeps what is seen where it is. */
export function List({ label, handle, height = [26, 34], make, fill, open, move }: ListProps) {
  const scroller = useRef<HTMLDivElement>(null)
  const body = useRef<HTMLDivElement>(null)
  const latest = useRef({ make, fill })
  latest.current = { make, fill }
  useEffect(() => {
    const coarse = matchMedia('(pointer: coarse)').matches
    const own = height[coarse ? 1 : 0]
    const lines = new Lines({
      scroller: scroller.current!,
      body: body.current!,
      height: () => own,
      make: () => {
        const line = latest.current.make()
        line.classList.add('item')
        return line
      },
      fill: (line, index) => latest.current.fill(line, index),
      hide: (line) => markChosen(line, false),
    })
    // The chosen line has an element only while it is near what is seen.
    const [outer, inner] = [scroller.current!, body.current!]
    lines.after = () => {
      if (inner.querySelector('#chosen-line')) outer.setAttribute('aria-activedescendant', 'chosen-line')
      else outer.removeAttribute('aria-activedescendant')
    }
    scroller.current!.style.setProperty('--row', `${own}px`)
    handle.current = {
      set: (count, added, holds) => {
        const element = scroller.current
        // Changes still come while the place is being left.
        if (!element) return
        lines.count = count
        const top = element.scrollTop
        if (added > 0 && (top > 0 || holds)) element.scrollTop = top + added * own
        lines.push(added)
      },
      redraw: () => lines.redraw(),
      reveal: (index) => lines.reveal(index),
      focus: () => scroller.current?.focus(),
    }
    return () => {
      handle.current = undefined
      lines.end()
    }
  }, [])
  const key = (event: KeyboardEvent): void => {
    const by = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1, PageDown: 10, PageUp: -10 }[event.key]
    if (by === undefined || event.ctrlKey || event.metaKey || event.altKey) return
    event.preventDefault()
    event.stopPropagation()
    move(by)
  }
  const isDown = useSignal(false)
  const click = ({ target }: MouseEvent): void => {
    const line = (target as HTMLElement).closest<HTMLElement>('.item')
    if (!line) return
    // Lines are not in the order of the document: where one is says which it is.
    const top = line.getBoundingClientRect().top - body.current!.getBoundingClientRect().top
    open(Math.round(top / line.offsetHeight))
  }
  return (
    <>
    <div class="list" ref={scroller} tabIndex={0} role="listbox" aria-label={label} onKeyDown={key} onClick={click} onScroll={() => (isDown.value = scroller.current!.scrollTop > 0)}>
      <div class="list-body" role="presentation" ref={body} />
    </div>
    {isDown.value && (
      <button type="button" class="newest" onClick={() => (scroller.current!.scrollTop = 0)}>
        ↑ Newest
      </button>
    )}
    </>
  )
}
