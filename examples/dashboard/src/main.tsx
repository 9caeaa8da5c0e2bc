import { createClient } from '@walcast/client'
import { StrictMode } from 'react'
import { createRoot } from 'react-dom/client'
import { Dashboard } from './Dashboard'
import { schema } from './schema'
import './style.css'

const client = createClient('ws://127.0.0.1:8080', { schema })

createRoot(document.getElementById('root')!).render(
  <StrictMode>
    <Dashboard client={client} />
  </StrictMode>,
)
