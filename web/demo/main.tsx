import { StrictMode } from 'react'
import { createRoot } from 'react-dom/client'
import { claimIdentity } from './people/identity.js'
import { App } from './shell/app.js'
import { countSockets, noteSeen } from './shell/gateway.js'

const root = document.getElementById('root')
if (root !== null) {
  countSockets()
  document.addEventListener('visibilitychange', () => document.hidden && noteSeen())
  await claimIdentity()
  createRoot(root).render(
    <StrictMode>
      <App />
    </StrictMode>
  )
}
