/** The state that a page and its service worker share: one row per project, in IndexedDB. */
import * as idb from 'lib0/indexeddb'
import type { FeedFilter } from '../feed.js'

const DATABASE = 'yjs-gateway'
const STORE = 'push'

/** A subscription, and the progress of the service worker. */
export interface PushState {
  /** The key of the row: the URL of the gateway and the id of the project. */
  key: string
  url: string
  project: string
  /** The id of this browser at the gateway. */
  client: string
  filter: PushFilter
  quietSeconds?: number
  /** The cursor up to which the service worker has read; null: it has not read yet. */
  cursor: string | null
  /** By file: the version that the service worker has stored. */
  versions: Record<string, number>
}

/** Selects the changes that are reported by push messages. */
export interface PushFilter extends FeedFilter {
  /** `finished`: report a turn only when it has ended. */
  turns?: 'all' | 'finished'
}

export function stateKey(url: string, project: string): string {
  return `${url} ${project}`
}

/** The rows of all projects. */
export async function readStates(): Promise<PushState[]> {
  return withStore((store) => idb.getAll(store)) as Promise<PushState[]>
}

export async function readState(key: string): Promise<PushState | null> {
  return ((await withStore((store) => idb.get(store, key))) as unknown as PushState | undefined) ?? null
}

export async function writeState(state: PushState): Promise<void> {
  // The types of lib0 cover only few of the values that IndexedDB can store.
  await withStore((store) => idb.put(store, { ...state } as unknown as string, state.key))
}

export async function deleteState(key: string): Promise<void> {
  await withStore((store) => idb.del(store, key))
}

async function withStore<T>(work: (store: IDBObjectStore) => Promise<T>): Promise<T> {
  const database = await idb.openDB(DATABASE, (db) => idb.createStores(db, [[STORE]]))
  try {
    const [store] = idb.transact(database, [STORE])
    if (store === undefined) throw new Error(`the database ${DATABASE} of this origin is of something else`)
    return await work(store)
  } finally {
    database.close()
  }
}
