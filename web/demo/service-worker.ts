/** The service worker of the demo; it handles only push messages. */
import { handlePush, type PushNews } from '../src/service-worker/index.js'

handlePush({ notification })

function notification({ project, changes, more }: PushNews) {
  const lines = changes.map((change) =>
    change.kind === 'turn' ? `An agent's turn: ${change.status}` : `${change.path} was ${change.change_type}`
  )
  const data = { url: `./?project=${encodeURIComponent(project)}` }
  return {
    title: `${project} – yjs-gateway`,
    options: { body: [...lines, ...(more ? ['and more'] : [])].join('\n'), data }
  }
}
