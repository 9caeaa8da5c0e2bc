import { createClient, sort } from '@walcast/client'
import { WalcastProvider } from '@walcast/client/react'
import { StrictMode } from 'react'
import { createRoot } from 'react-dom/client'
import { loggedIn, token } from './api'
import { Chat } from './Chat'
import { Login } from './Login'
import { schema } from './schema'
import './style.css'

const client = createClient('ws://127.0.0.1:8080', { schema, sort, token })
const name = loggedIn()

createRoot(document.getElementById('root')!).render(
  <StrictMode>
    <WalcastProvider client={client}>{name ? <Chat name={name} /> : <Login />}</WalcastProvider>
  </StrictMode>,
)
