/** Reports what a browser signals about the page, the network, the device and the user to a manager. */

/** The receiver of the signals: `PollingManager`. */
export interface SignalReceiver {
  hide(hidden: boolean): void
  touch(): void
  online(): void
  constrain(constrained: boolean): void
}

const INTERACTIONS = ['pointerdown', 'pointermove', 'keydown', 'wheel', 'touchstart'] as const
/** User activity is reported at most once in this time. */
const TOUCH_EVERY_MS = 1_000
const LOW_BATTERY = 0.2

interface Connection extends EventTarget {
  saveData?: boolean
}

interface Battery extends EventTarget {
  charging: boolean
  level: number
}

/** A touch screen without a mouse: phones and tablets, also in browsers without `userAgentData`. */
const TOUCH_ONLY = '(hover: none) and (pointer: coarse)'

/** Not available in every browser, and missing from the DOM types. */
interface NavigatorHints {
  connection?: Connection
  userAgentData?: { mobile: boolean }
  getBattery?: () => Promise<Battery>
}

/**
 * Start to report signals to a manager; returns a function that ends this. Without a `document` (in Node.js, in
 * workers) there are no signals.
 */
export function watchSignals(receiver: SignalReceiver): () => void {
  if (typeof document === 'undefined' || typeof window === 'undefined') return () => undefined
  const stop = new AbortController()
  watchPage(receiver, stop.signal)
  watchUser(receiver, stop.signal)
  watchDevice(receiver, stop.signal)
  return () => stop.abort()
}

function watchPage(receiver: SignalReceiver, signal: AbortSignal): void {
  const tell = () => receiver.hide(document.visibilityState === 'hidden')
  document.addEventListener('visibilitychange', tell, { signal })
  // A frozen page receives nothing, and would withhold a shared stream from the other pages.
  document.addEventListener('freeze', () => receiver.hide(true), { signal })
  document.addEventListener('resume', tell, { signal })
  // The event `offline` is ignored: a gateway on the same machine still works, and a retry costs little.
  window.addEventListener('online', () => receiver.online(), { signal })
  tell()
}

function watchUser(receiver: SignalReceiver, signal: AbortSignal): void {
  let touched = Number.NEGATIVE_INFINITY
  const touch = () => {
    const now = performance.now()
    if (now - touched < TOUCH_EVERY_MS) return
    touched = now
    receiver.touch()
  }
  for (const name of INTERACTIONS) window.addEventListener(name, touch, { signal, passive: true, capture: true })
}

function watchDevice(receiver: SignalReceiver, signal: AbortSignal): void {
  const hints = navigator as Navigator & NavigatorHints
  const touch = typeof matchMedia === 'undefined' ? undefined : matchMedia(TOUCH_ONLY)
  let battery: Battery | undefined
  const tell = () => {
    const low = battery !== undefined && !battery.charging && battery.level <= LOW_BATTERY
    const mobile = hints.userAgentData?.mobile || touch?.matches
    receiver.constrain(Boolean(hints.connection?.saveData || mobile || low))
  }
  touch?.addEventListener('change', tell, { signal })
  hints.connection?.addEventListener?.('change', tell, { signal })
  hints.getBattery?.().then(
    (found) => {
      if (signal.aborted) return
      battery = found
      for (const name of ['levelchange', 'chargingchange']) found.addEventListener(name, tell, { signal })
      tell()
    },
    () => undefined // permission denied
  )
  tell()
}
