import { render } from 'preact'
import { App } from './app.js'
import { refresh, poll } from './server.js'
import './style/app.css'

const root = document.getElementById('app')!
root.replaceChildren()
render(<App />, root)
// Who may see what changes with a restart, and with a token that is given.
poll(5000, async () => {
  if (!(await refresh())) throw new Error('no answer')
})
