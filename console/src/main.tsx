import { effect } from '@preact/signals'
import { render } from 'preact'
import { address } from './address.js'
import { App } from './app.js'
import { client, poll, refresh } from './server.js'
import './style/app.css'

// Asked first, since everything waits for it. A restart changes it, and so does a token that is given.
poll(5000, async () => {
  if (!(await refresh())) throw new Error('no answer')
})
// Connects while the place is still being drawn.
effect(() => void (/^(query|stream)$/.test(address.value.place) && client.value))

const root = document.getElementById('app')!
root.replaceChildren()
render(<App />, root)
