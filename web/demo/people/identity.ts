/** The name of the visitor in this window: a stored name, or a different name in each further window that is open. */
import { useSyncExternalStore } from 'react'
import { colorOf, type Person } from './person.js'

const KEY = 'yjs-gateway name'
const LOCK = 'yjs-gateway name of this browser'
const FIRST = ['Amber', 'Coral', 'Indigo', 'Jade', 'Olive', 'Ruby', 'Silver', 'Violet', 'Copper', 'Hazel']
const SECOND = ['Badger', 'Falcon', 'Heron', 'Lynx', 'Marten', 'Otter', 'Panda', 'Robin', 'Seal', 'Wren']
const MAX_LENGTH = 40

let name = ''
const listeners = new Set<() => void>()

/** Must be awaited before the page is rendered. */
export async function claimIdentity(): Promise<void> {
  const ofWindow = sessionStorage.getItem(KEY)
  const isFirst = await lockFirstWindow()
  name = ofWindow ?? (isFirst ? localStorage.getItem(KEY) : null) ?? `${anyOf(FIRST)} ${anyOf(SECOND)}`
  keep(isFirst)
}

export function currentPerson(): Person {
  return { name, color: colorOf(name) }
}

export function rename(wanted: string): void {
  const trimmed = wanted.trim().slice(0, MAX_LENGTH)
  if (trimmed === '' || trimmed === name) return
  name = trimmed
  keep(true)
  for (const listener of [...listeners]) listener()
}

export function useName(): string {
  return useSyncExternalStore(
    (listener) => {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    () => name
  )
}

function keep(inBrowser: boolean): void {
  sessionStorage.setItem(KEY, name)
  if (inBrowser) localStorage.setItem(KEY, name)
}

/**
 * Whether this is the first open window of the page in this browser. The lock is held as long as the window is open.
 */
function lockFirstWindow(): Promise<boolean> {
  if (!('locks' in navigator)) return Promise.resolve(true) // no secure context: the page came over plain HTTP
  return new Promise((resolve) => {
    const hold = (lock: Lock | null) => {
      resolve(lock !== null)
      return lock === null ? undefined : new Promise<void>(() => undefined)
    }
    navigator.locks.request(LOCK, { ifAvailable: true }, hold).catch(() => resolve(true))
  })
}

function anyOf(words: string[]): string {
  return words[Math.floor(Math.random() * words.length)] ?? ''
}
