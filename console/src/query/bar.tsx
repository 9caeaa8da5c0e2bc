/** The query bar: a predicate with colours, what may come next, and where it is wrong. */
import { type Signal, useComputed, useSignal } from '@preact/signals'
import { useEffect, useRef } from 'preact/hooks'
import { ApiError, post } from '../server.js'
import { counted, sentence } from '../text/format.js'
import { type Column, type Suggestion, indexOfByte, placeOf, suggestions, tokens } from '../text/sql.js'
import { Command } from '../ui/copy.js'

/** A refusal of a predicate; `at` is an index of its text. */
export interface Problem {
  readonly message: string
  readonly at: number | undefined
}

interface Parsed {
  readonly ok: boolean
  readonly filed?: readonly { readonly kind: string; readonly text: string }[]
  readonly warnings?: readonly string[]
  readonly error?: { readonly message: string; readonly offset?: number }
}

/** The server's answer about the text as it is being typed. */
interface Verdict {
  readonly text: string
  readonly filed?: string
  readonly isSlow?: boolean
  readonly warnings?: readonly string[]
  readonly problem?: Problem
}

/** A combobox of several lines: HTML's types know it of one line alone. */
const COMBOBOX: object = { role: 'combobox' }

const TYPING_MS = 350

export interface BarProps {
  readonly table: string
  readonly columns: readonly Column[]
  /** The text in the bar, applied or not. */
  readonly text: Signal<string>
  /** The predicate that the rows are of. */
  readonly applied: string
  /** The refusal of the last one that was asked for. */
  readonly refused: Problem | undefined
  readonly apply: (where: string) => void
}

export function Bar({ table, columns, text, applied, refused, apply }: BarProps) {
  const field = useRef<HTMLTextAreaElement>(null)
  const mirror = useRef<HTMLPreElement>(null)
  const offered = useSignal<readonly Suggestion[]>([])
  const chosen = useSignal(-1)
  const verdict = useSignal<Verdict | undefined>(undefined)
  const value = text.value
  const names = useComputed(() => new Set<string>())
  names.value.clear()
  for (const { name } of columns) names.value.add(name)

  useEffect(() => {
    const control = new AbortController()
    const timer = setTimeout(async () => {
      try {
        verdict.value = judged(value, await post<Parsed>('/api/parse', { table, ...(value.trim() && { where: value }), undecided: 'send' }, control.signal))
      } catch (error) {
        if (error instanceof ApiError) verdict.value = undefined
      }
    }, TYPING_MS)
    return () => {
      clearTimeout(timer)
      control.abort()
    }
  }, [value, table])

  // A long text is scrolled: the colours stand below the same letters.
  const follow = (): void => {
    mirror.current!.scrollTop = field.current!.scrollTop
  }
  useEffect(follow, [value])

  const told = verdict.value?.text === value ? verdict.value : undefined
  const problem = told?.problem ?? (value === applied ? refused : undefined)
  // At the end of an unfinished text something is missing; nothing is wrong yet.
  const isUnfinished = problem !== undefined && value !== applied && (problem.at ?? 0) >= value.trimEnd().length
  const wrong = isUnfinished ? undefined : problem?.at !== undefined ? placeOf(value, problem.at) : undefined

  const offer = (): void => {
    const { selectionStart, selectionEnd } = field.current!
    offered.value = selectionStart === selectionEnd ? suggestions(field.current!.value, selectionStart, columns) : []
    chosen.value = -1
  }
  const close = (): void => {
    offered.value = []
    chosen.value = -1
  }
  const take = ({ text: word, from, to }: Suggestion): void => {
    const { current } = field
    current!.focus()
    current!.setRangeText(word.endsWith('(') ? word : `${word} `, from, to, 'end')
    text.value = current!.value
    offer()
  }
  const key = (event: KeyboardEvent): void => {
    // Keys of an input method choose characters.
    if (event.isComposing) return
    const { length } = offered.value
    const { key } = event
    if (key === 'ArrowDown' || key === 'ArrowUp') {
      if (length === 0) {
        if (key === 'ArrowDown' && !value.includes('\n')) offer()
        else return
      } else chosen.value = (chosen.value + (key === 'ArrowDown' ? 1 : chosen.value < 0 ? 0 : -1) + length) % length
    } else if (key === ' ' && event.ctrlKey) offer()
    else if (key === 'Escape' && length > 0) close()
    else if (key === 'Escape') return field.current!.blur()
    else if (key === 'Enter' && !event.shiftKey) {
      const picked = offered.value[chosen.value]
      if (picked) take(picked)
      else {
        close()
        apply(value.trim())
      }
    } else return
    event.preventDefault()
  }

  return (
    <form class="bar" onSubmit={(event) => (event.preventDefault(), apply(value.trim()))}>
      <div class="sql">
        <label for="where">
          <span class="soft">SELECT * FROM</span> <b>{table}</b> <span class="soft">WHERE</span>
        </label>
        <div class="field" data-wrong={problem && !isUnfinished ? '' : undefined}>
          <pre class="mirror" ref={mirror} aria-hidden="true">
            {tokens(value, names.value).map(({ kind, text: part, at }) => (
              <span key={at} class={`t-${kind}`} data-wrong={wrong && at >= wrong.from && at < wrong.to ? '' : undefined}>
                {part}
              </span>
            ))}
            {wrong && wrong.from === wrong.to && <span data-wrong="">{' '}</span>}
            {'\u200b'}
          </pre>
          <textarea
            id="where"
            ref={field}
            rows={1}
            spellcheck={false}
            autocapitalize="off"
            autocomplete="off"
            placeholder="every row"
            {...COMBOBOX}
            aria-autocomplete="list"
            aria-expanded={offered.value.length > 0}
            aria-controls="words"
            aria-activedescendant={chosen.value >= 0 ? `word-${chosen.value}` : undefined}
            aria-invalid={problem && !isUnfinished ? true : undefined}
            aria-describedby="verdict"
            value={value}
            onInput={(event) => {
              text.value = event.currentTarget.value
              offer()
            }}
            onKeyDown={key}
            onClick={() => offered.value.length > 0 && close()}
            onBlur={close}
            onScroll={follow}
          />
          <ul id="words" role="listbox" aria-label="May come next" hidden={offered.value.length === 0}>
            {offered.value.map((word, i) => (
              <li
                key={word.text}
                id={`word-${i}`}
                role="option"
                aria-selected={i === chosen.value}
                onMouseDown={(event) => {
                  event.preventDefault()
                  take(word)
                }}
              >
                <code>{word.text}</code> <span class="soft">{word.about}</span>
              </li>
            ))}
          </ul>
        </div>
        <button type="submit" class={value.trim() === applied ? '' : 'primary'}>
          Run <kbd>↵</kbd>
        </button>
      </div>
      <p id="verdict" class="verdict" data-kind={problem ? (isUnfinished ? '' : 'problem') : told?.isSlow ? 'slow' : ''}>
        {problem ? problem.message : told?.filed ? told.filed : value.trim() === applied ? '' : 'Enter runs it.'}
      </p>
      {told?.warnings && told.warnings.length > 0 && <Warnings all={told.warnings} />}
    </form>
  )
}

/** What the server says of a query that it takes: each warning, and the statements that mend them, which several may share. */
function Warnings({ all }: { all: readonly string[] }) {
  const parts = all.map((warning) => warning.split('; fix: '))
  return (
    <details class="warnings">
      <summary>{counted(all.length, 'warning')} about this query</summary>
      <ul>
        {parts.map(([text = '']) => (
          <li key={text}>{sentence(text)}</li>
        ))}
      </ul>
      {[...new Set(parts.flatMap(([, fix]) => fix ?? []))].map((fix) => (
        <Command key={fix} text={`${fix};`} />
      ))}
    </details>
  )
}

/** The server's words for people at the console, which gives no parameters. */
export const inWords = (message: string): string => message.split('\n', 1)[0]!.replace(/^(\$\d+) has no value: no parameters were given$/, '$1 has no value: write the value itself in its place')

function judged(text: string, { ok, filed = [], warnings = [], error }: Parsed): Verdict {
  if (!ok) {
    const { message = 'refused', offset } = error ?? {}
    return { text, problem: { message: inWords(message), at: offset === undefined ? undefined : indexOfByte(text, offset) } }
  }
  const isSlow = filed.some(({ kind }) => kind === 'every_change')
  const found = filed.map((part) => part.text).join(', then ')
  const how = text.trim() === '' ? 'Every row, and so every change of the table.' : isSlow ? 'Looked at for every change of the table: no part of it is an equality or a range.' : found && `Filed under ${found}.`
  return { text, isSlow: isSlow && text.trim() !== '', filed: how, warnings }
}
