/** A page that keeps a document in IndexedDB; push.test.ts builds it and opens it in a browser. */
import { IndexeddbPersistence } from 'y-indexeddb'
import * as Y from 'yjs'
import { GatewayClient } from '../../src/index.js'
import { enablePush } from '../../src/push/index.js'

const told: unknown[] = []
navigator.serviceWorker.addEventListener('message', ({ data }) => told.push(data))

Object.assign(globalThis, {
  told,

  /** The text of the document that is kept under a name. */
  async kept(name: string): Promise<string> {
    const doc = new Y.Doc()
    const persistence = new IndexeddbPersistence(name, doc)
    await persistence.whenSynced
    const text = doc.getText('content').toString()
    await persistence.destroy()
    return text
  },

  /** Keep a document as an application does that shows it. */
  async keep(url: string, project: string, path: string): Promise<void> {
    const doc = new Y.Doc()
    const persistence = new IndexeddbPersistence(path, doc)
    await persistence.whenSynced
    const { update } = await new GatewayClient(url).project(project).readUpdate(path)
    if (update !== null) Y.applyUpdate(doc, update)
    await persistence.destroy()
  },

  /** Enable push messages with a subscription of the test: this browser has no push service. */
  async enable(url: string, project: string, subscription: object): Promise<string> {
    PushManager.prototype.subscribe = async () => ({ toJSON: () => subscription }) as PushSubscription
    await navigator.serviceWorker.register('/worker.js')
    const { client } = await enablePush(new GatewayClient(url).project(project), { quietSeconds: 0 })
    return client
  }
})
