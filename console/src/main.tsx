import { effect } from '@preact/signals'
import { render } from 'preact'
import { address } from './address.js'
import { App } from './app.js'
import { access, client, poll, refresh } from './server.js'
import './style/app.css'

// First of all, so that it connects while the place is being drawn.
effect(() => void (/^(query|stream)$/.test(address.value.place) && client.value))
// A restart changes it, and so does a token that is given.
poll(
  5000,
  async () => {
    if (!(await refresh())) throw new Error('no answer')
  },
  access.value ? 5000 : 0,
)

const root = document.getElementById('app')!
root.replaceChildren()
render(<App />, root)
