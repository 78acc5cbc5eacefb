/**
 * For a service worker: on a push message, writes the changes into the documents that `y-indexeddb` keeps, so that a
 * page opened offline shows them.
 */
import * as idb from 'lib0/indexeddb'
import { GatewayClient } from '../client.js'
import type { Project, SyncChange } from '../project.js'
import { putSubscription } from '../push/enable-push.js'
import { type PushState, readStates, writeState } from '../push/state.js'
import type { Token } from '../token.js'
import type { FeedEntry } from '../wire.js'

/** The payload of a push message. */
export interface PushNews {
  project: string
  cursor: string
  /** The newest changes, at most ten. */
  changes: FeedEntry[]
  /** True if some changes did not fit. */
  more: boolean
}

/** The message posted to the open pages of the application after an update in the background. */
export interface BackgroundUpdate {
  type: 'yjs-gateway'
  project: string
  cursor: string
  /** The files whose documents in IndexedDB were updated. */
  paths: string[]
}

/** The options of `handlePush`; all are optional. */
export interface HandlePushOptions {
  /** The credential for requests of the service worker. Default: only cookies, if any. */
  token?: Token
  /**
   * The path of the file whose document `y-indexeddb` keeps under a name; null: the name belongs to no file. Default:
   * the name itself.
   */
  pathOf?: (name: string) => string | null
  /**
   * The notification that is shown if no page is visible. Default: a line that summarizes the changes. A click on it
   * opens `options.data.url` (default `/`), or focuses an open page.
   */
  notification?: (news: PushNews) => { title: string; options?: NotificationOptions }
}

/** The part of `ServiceWorkerGlobalScope` that is used; the DOM types of a page do not include it. */
interface WorkerScope {
  registration: ServiceWorkerRegistration
  clients: {
    matchAll(options: { type: 'window'; includeUncontrolled: boolean }): Promise<WindowClient[]>
    openWindow(url: string): Promise<unknown>
  }
  addEventListener(type: string, listener: (event: WorkerEvent) => void): void
}

interface WindowClient {
  visibilityState: 'visible' | 'hidden'
  postMessage(message: unknown): void
  focus(): Promise<unknown>
}

interface WorkerEvent {
  waitUntil(promise: Promise<unknown>): void
  data?: { json(): unknown } | null
  notification?: Notification
}

const UPDATES = 'updates'

/** Handle push messages in this service worker. Call it once, during the first evaluation of the script. */
export function handlePush(options: HandlePushOptions = {}): void {
  const scope = globalThis as unknown as WorkerScope
  scope.addEventListener('push', (event) => event.waitUntil(onPush(scope, event.data?.json() as PushNews, options)))
  scope.addEventListener('pushsubscriptionchange', (event) => event.waitUntil(renew(scope, options)))
  scope.addEventListener('notificationclick', (event) => event.waitUntil(onClick(scope, event)))
}

/** Updates run one after another: each continues where the previous one ended. */
let updating: Promise<unknown> = Promise.resolve()

async function onPush(scope: WorkerScope, news: PushNews, options: HandlePushOptions): Promise<void> {
  const update = updating.then(() => updateAll(scope, news.project, options))
  updating = update.catch(() => undefined)
  try {
    await update
  } finally {
    await notify(scope, news, options)
  }
}

async function updateAll(scope: WorkerScope, project: string, options: HandlePushOptions): Promise<void> {
  for (const state of await readStates()) {
    if (state.project === project) await update(scope, state, options)
  }
}

/** Request the changes, and write them into the kept documents. */
async function update(scope: WorkerScope, state: PushState, options: HandlePushOptions): Promise<void> {
  const project = projectOf(state, options)
  const names = await keptDocuments(options)
  const written = new Set<string>()
  let { cursor, versions } = state
  let more = names.size > 0
  while (more) {
    const paths = [...names.keys()]
    const known = Object.fromEntries(Object.entries(versions).filter(([path]) => names.has(path)))
    const answer = await project.sync({}, { since: cursor, versions: known, paths })
    for (const change of answer.changes) {
      const version = await keep(project, change, names.get(change.path) ?? [])
      if (version === null) delete known[change.path]
      else {
        known[change.path] = version
        written.add(change.path)
      }
    }
    cursor = answer.cursor
    versions = known
    more = answer.more
    await writeState({ ...state, cursor, versions })
  }
  const message: BackgroundUpdate = {
    type: 'yjs-gateway',
    project: state.project,
    cursor: cursor ?? '',
    paths: [...written]
  }
  for (const client of await pages(scope)) client.postMessage(message)
}

/** By path: the names of the databases that hold the document of the file. */
async function keptDocuments({ pathOf = (name) => name }: HandlePushOptions): Promise<Map<string, string[]>> {
  const names = new Map<string, string[]>()
  for (const { name } of await indexedDB.databases()) {
    const path = name === undefined ? null : pathOf(name)
    if (name !== undefined && path !== null) names.set(path, [...(names.get(path) ?? []), name])
  }
  return names
}

/**
 * Write the missing update into documents. Returns the version that they then have; null if the file has another
 * incarnation.
 */
async function keep(project: Project, change: SyncChange, names: string[]): Promise<number | null> {
  const { path, update: lacking, from_version: base = 0 } = change
  if (lacking === undefined || change.change_type === 'deleted') return null
  let { version } = change
  for (const name of names) {
    const database = await idb.openDB(name, () => undefined)
    try {
      if (!database.objectStoreNames.contains(UPDATES)) continue // not a database of y-indexeddb
      const count = await idb.count(storeOf(database))
      if (count === 0 && base > 0) {
        const whole = await project.readUpdate(path)
        version = Math.min(version, whole.version)
        await add(database, whole.update ?? lacking)
      } else await add(database, lacking)
    } finally {
      database.close()
    }
  }
  return version
}

async function add(database: IDBDatabase, update: Uint8Array): Promise<void> {
  await idb.addAutoKey(storeOf(database), update as unknown as ArrayBuffer) // IndexedDB stores typed arrays, too
}

function storeOf(database: IDBDatabase): IDBObjectStore {
  return idb.transact(database, [UPDATES])[0] as IDBObjectStore
}

function projectOf({ url, project }: PushState, { token }: HandlePushOptions): Project {
  return new GatewayClient(url, token === undefined ? {} : { token }).project(project)
}

async function notify(scope: WorkerScope, news: PushNews, options: HandlePushOptions): Promise<void> {
  if ((await pages(scope)).some((page) => page.visibilityState === 'visible')) return
  const { title, options: more } = options.notification?.(news) ?? inALine(news)
  await scope.registration.showNotification(title, { tag: `yjs-gateway ${news.project}`, ...more })
}

function inALine({ project, changes, more }: PushNews): { title: string; options: NotificationOptions } {
  const lines = changes.map((change) =>
    change.kind === 'turn' ? `An agent's turn: ${change.status}` : `${change.path} was ${change.change_type}`
  )
  return { title: project, options: { body: [...lines, ...(more ? ['and more'] : [])].join('\n') } }
}

/** The browser has replaced its subscription: register the new one with the gateway, for every project. */
async function renew(scope: WorkerScope, options: HandlePushOptions): Promise<void> {
  for (const state of await readStates()) {
    const project = projectOf(state, options)
    const { key } = (await (await project.client.send('GET', '/api/push/key')).json()) as { key: string }
    const wanted = { userVisibleOnly: true, applicationServerKey: key }
    await putSubscription(project, state, await scope.registration.pushManager.subscribe(wanted))
  }
}

async function onClick(scope: WorkerScope, { notification }: WorkerEvent): Promise<void> {
  notification?.close()
  const [page] = await pages(scope)
  await (page === undefined ? scope.clients.openWindow(notification?.data?.url ?? '/') : page.focus())
}

function pages(scope: WorkerScope): Promise<WindowClient[]> {
  return scope.clients.matchAll({ type: 'window', includeUncontrolled: true })
}
