/** The name of the visitor in this window: a stored name, or a different name in each further window that is open. */
import { useSyncExternalStore } from 'react'
import { colorOf, type Person } from './person.js'

const KEY = 'yjs-gateway name'
const LOCK = 'yjs-gateway name of this browser'
/** So many names are tried until one is found that no other window has. */
const ATTEMPTS = 50
const FIRST = ['Amber', 'Coral', 'Indigo', 'Jade', 'Olive', 'Ruby', 'Silver', 'Violet', 'Copper', 'Hazel']
const SECOND = ['Badger', 'Falcon', 'Heron', 'Lynx', 'Marten', 'Otter', 'Panda', 'Robin', 'Seal', 'Wren']
const MAX_LENGTH = 40

let name = ''
const listeners = new Set<() => void>()

/** Must be awaited before the page is rendered. */
export async function claimIdentity(): Promise<void> {
  const ofWindow = sessionStorage.getItem(KEY)
  const isFirst = await hold(LOCK)
  name = ofWindow ?? (isFirst ? localStorage.getItem(KEY) : null) ?? ''
  if (name === '') name = await freeName()
  else await hold(lockOf(name))
  keep(isFirst)
}

/** A name that no other open window of this browser has. */
async function freeName(): Promise<string> {
  for (let attempt = 1; ; attempt += 1) {
    const candidate = `${anyOf(FIRST)} ${anyOf(SECOND)}`
    if (attempt === ATTEMPTS || (await hold(lockOf(candidate)))) return candidate
  }
}

function lockOf(candidate: string): string {
  return `${LOCK}: ${candidate}`
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

/** Whether no other open window of this browser holds the lock, which this window then holds as long as it is open. */
function hold(lockName: string): Promise<boolean> {
  if (!('locks' in navigator)) return Promise.resolve(true) // no secure context: the page came over plain HTTP
  return new Promise((resolve) => {
    const granted = (lock: Lock | null) => {
      resolve(lock !== null)
      return lock === null ? undefined : new Promise<void>(() => undefined)
    }
    navigator.locks.request(lockName, { ifAvailable: true }, granted).catch(() => resolve(true))
  })
}

function anyOf(words: string[]): string {
  return words[Math.floor(Math.random() * words.length)] ?? ''
}
