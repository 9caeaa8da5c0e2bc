/** The frame of the five places: navigation, the state of the server, the token, keys. */
import { useSignal } from '@preact/signals'
import { useEffect } from 'preact/hooks'
import { address, go } from './address.js'
import { ClientsPlace } from './clients/place.js'
import { HealthPlace } from './health/place.js'
import { QueryPlace } from './query/place.js'
import { access, connection, isRefused, lost, problems, refresh, setToken, source } from './server.js'
import { StreamPlace } from './stream/place.js'
import { TablesPlace } from './tables/place.js'
import { sentence } from './text/format.js'
import { PLACES, type Place } from './text/url.js'
import { LiveRegion, announce } from './ui/announce.js'
import { Help, isHelpOpen } from './ui/help.js'
import { onKey } from './ui/keys.js'
import { ThemeButton } from './ui/theme.js'

const NAMES: Readonly<Record<Place, string>> = { query: 'Query', stream: 'Stream', health: 'Health', clients: 'Clients', tables: 'Tables' }

export function App() {
  const { place } = address.value
  const told = access.value
  useEffect(
    () => onKey({ ...Object.fromEntries(PLACES.map((name) => [`g ${name[0]}`, () => visit(name)])), '?': () => (isHelpOpen.value = true) }),
    [],
  )
  useEffect(() => {
    document.title = `${NAMES[place]} · walcast`
  }, [place])
  return (
    <>
      <a class="skip" href="#main" onClick={(event) => (event.preventDefault(), document.getElementById('main')!.focus())}>
        Skip to content
      </a>
      <header class="top">
        <h1>walcast</h1>
        <nav aria-label="Places">
          {PLACES.map((name) => (
            <a key={name} href={`#${name}`} aria-current={name === place ? 'page' : undefined} title={`g ${name[0]}`} onClick={(event) => (event.preventDefault(), visit(name))}>
              {NAMES[name]}
            </a>
          ))}
        </nav>
        <SourceChoice />
        <ThemeButton />
        <button type="button" class="icon" aria-label="Keys" title="Keys (?)" onClick={() => (isHelpOpen.value = true)}>
          ?
        </button>
      </header>
      <Lost />
      <Problems />
      <main id="main" tabIndex={-1}>
        {told === undefined ? <Starting /> : told.token === 'needed' ? <TokenPrompt /> : <PlaceOf key={source.value} place={place} />}
      </main>
      <Help />
      <LiveRegion />
    </>
  )
}

/** Another place keeps the table and the predicate, so that one comes back to them. */
function visit(place: Place): void {
  go({ place })
  announce(NAMES[place])
}

function PlaceOf({ place }: { place: Place }) {
  if (place === 'health') return <HealthPlace />
  if (place === 'clients') return <ClientsPlace />
  if (place === 'tables') return <TablesPlace />
  if (!access.value!.rows) return <Closed name={NAMES[place]} />
  return place === 'stream' ? <StreamPlace /> : <QueryPlace />
}

function Closed({ name }: { name: string }) {
  return (
    <div class="empty page">
      <p>
        <b>{name} is closed here.</b> {sentence(access.value!.rows_refused ?? 'rows are not shown on this address')}
      </p>
      <p class="soft">
        <a href="#health">Health</a>, <a href="#clients">Clients</a> and <a href="#tables">Tables</a> show no rows, and work.
      </p>
    </div>
  )
}

function Starting() {
  return lost.value === undefined ? null : (
    <div class="empty page">
      <p>
        <b>{lost.value}</b> This page tries again by itself.
      </p>
    </div>
  )
}

/** The server is away: what is shown is from before. */
function Lost() {
  const { name } = connection.value
  const isAway = lost.value !== undefined || ((name === 'waiting' || name === 'offline') && access.value?.rows === true)
  useEffect(() => {
    if (isAway) announce('the server does not answer')
  }, [isAway])
  if (name === 'refused' || name === 'needs-token') {
    const { error } = connection.value as { error: Error }
    return (
      <p class="notice" data-bad="">
        The stream is refused: {error.message}
      </p>
    )
  }
  if (!isAway || access.value === undefined) return null
  return (
    <p class="notice" data-bad="">
      <b>{lost.value ?? 'The stream is not connected.'}</b> {access.value.token === 'needed' ? 'This page tries again by itself.' : 'The values below are from before. The page goes on by itself, without a gap, once the server is back.'}
    </p>
  )
}

/** Refusals of the server: of Postgres, for one, that cannot be asked. */
function Problems() {
  const text = problems.value.map(sentence).join(' ')
  useEffect(() => {
    if (text) announce(text)
  }, [text])
  return text === '' || lost.value !== undefined ? null : (
    <p class="notice" data-amber="">
      {text} The page asks again by itself.
    </p>
  )
}

function SourceChoice() {
  const names = access.value?.sources ?? []
  if (names.length === 0) return null
  return (
    <label class="source">
      <span class="unseen">Database</span>
      <select value={source.value} onChange={(event) => go({ source: event.currentTarget.value, table: undefined, where: undefined, order: undefined })}>
        {names.map((name) => (
          <option key={name}>{name}</option>
        ))}
      </select>
    </label>
  )
}

function TokenPrompt() {
  const given = useSignal('')
  const isSent = useSignal(false)
  const send = async (event: Event): Promise<void> => {
    event.preventDefault()
    if (given.value.trim() === '') return
    isSent.value = true
    // No token has other characters, and browsers send no others in a header.
    isRefused.value = !/^[!-~]+$/.test(given.value.trim())
    if (!isRefused.value) {
      setToken(given.value.trim())
      await refresh()
    }
    if (isRefused.value) announce('the token is refused')
  }
  return (
    <form class="token card" onSubmit={send}>
      <h2>Admin token</h2>
      <p>This server asks for its admin token: the content of the file that <code>--admin-token-file</code> names. It is kept in this tab until you close it.</p>
      <div class="row">
        <label class="unseen" for="token">
          Admin token
        </label>
        <input id="token" type="password" autocomplete="off" spellcheck={false} value={given.value} aria-invalid={isRefused.value ? true : undefined} aria-describedby="token-problem" onInput={(event) => ((given.value = event.currentTarget.value), (isSent.value = false))} />
        <button type="submit" class="primary">
          Go on
        </button>
      </div>
      <p id="token-problem" class="problem" role="alert">
        {isRefused.value ? 'The server does not know this token.' : isSent.value && lost.value !== undefined ? 'The token is tried once the server answers.' : ''}
      </p>
    </form>
  )
}
