import { useMemo } from 'preact/hooks'
import { bytes, lookOf, whole } from '../text/format.js'
import { CopyButton } from './copy.js'

/** Characters of a value that are shown; all of it can be copied. */
const MOST = 10_000

/** A value in full, or the beginning of a large one. Always as text. */
export function Value({ value, most = MOST }: { value: unknown; most?: number }) {
  const look = lookOf(value)
  const text = useMemo(() => (look === 'plain' ? whole(value) : ''), [value])
  if (look !== 'plain') return <span class="value" data-look={look}>{look === 'null' ? 'null' : look === 'empty' ? "''" : 'not sent'}</span>
  if (text.length <= most) return <span class="value">{text}</span>
  return (
    <span class="value">
      {text.slice(0, most)}…{' '}
      <span class="more">
        {bytes(text.length)}, of which the beginning is shown <CopyButton text={text} label="Copy all" />
      </span>
    </span>
  )
}
