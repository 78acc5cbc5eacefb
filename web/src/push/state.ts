/** What a page and its service worker know together of push messages: one row a project, in IndexedDB. */
import * as idb from 'lib0/indexeddb'
import type { FeedFilter } from '../feed.js'

const DATABASE = 'yjs-gateway'
const STORE = 'push'

/** A subscription, and how far the service worker is. */
export interface PushState {
  /** Where the gateway is, and the name of the project: what the row is called. */
  key: string
  url: string
  project: string
  /** The id of this browser at the gateway. */
  client: string
  filter: PushFilter
  quietSeconds?: number
  /** Up to here the service worker has asked; null: not yet. */
  cursor: string | null
  /** By file the version that the service worker has written. */
  versions: Record<string, number>
}

/** What push messages are to tell. */
export interface PushFilter extends FeedFilter {
  /** `finished`: of a turn only that it has ended. */
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
  // The types of lib0 know few of the values that IndexedDB keeps.
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
