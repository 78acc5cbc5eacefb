// @vitest-environment jsdom
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { PollingManager } from '../src/polling/manager.js'

let visibility: DocumentVisibilityState = 'visible'

beforeEach(() => {
  visibility = 'visible'
  vi.useFakeTimers()
  vi.spyOn(document, 'visibilityState', 'get').mockImplementation(() => visibility)
})

afterEach(() => {
  expect(vi.getTimerCount()).toBe(0)
  vi.useRealTimers()
  vi.restoreAllMocks()
})

function show(state: DocumentVisibilityState): void {
  visibility = state
  document.dispatchEvent(new Event('visibilitychange'))
}

test('a hidden page asks nothing and runs no timer; shown again it asks at once', async () => {
  const manager = new PollingManager()
  const poll = vi.fn(async () => ({ changed: false }))
  const subscription = manager.register('a', poll, 2_000)
  await vi.advanceTimersByTimeAsync(2_000)
  expect(poll).toHaveBeenCalledTimes(2)
  show('hidden')
  expect(vi.getTimerCount()).toBe(0)
  await vi.advanceTimersByTimeAsync(3_600_000)
  expect(poll).toHaveBeenCalledTimes(2)
  show('visible')
  expect(poll).toHaveBeenCalledTimes(3)
  subscription.unregister()
})

test('what the application has paused is not resumed by showing the page', async () => {
  const manager = new PollingManager()
  const poll = vi.fn(async () => ({ changed: false }))
  const subscription = manager.register('a', poll, 2_000)
  await vi.advanceTimersByTimeAsync(0)
  manager.pause()
  show('hidden')
  show('visible')
  await vi.advanceTimersByTimeAsync(60_000)
  expect(poll).toHaveBeenCalledTimes(1)
  manager.resume()
  expect(poll).toHaveBeenCalledTimes(2)
  subscription.unregister()
})

test('a page opened hidden waits until it is shown', async () => {
  visibility = 'hidden'
  const manager = new PollingManager()
  const poll = vi.fn(async () => ({ changed: false }))
  const subscription = manager.register('a', poll, 2_000)
  await vi.advanceTimersByTimeAsync(10_000)
  expect(poll).not.toHaveBeenCalled()
  show('visible')
  expect(poll).toHaveBeenCalledTimes(1)
  subscription.unregister()
})

test('after 5 minutes without the user all stops; a key pressed starts it again', async () => {
  const manager = new PollingManager({ settings: { idleStopMs: null } })
  const onStop = vi.fn()
  const poll = vi.fn(async () => ({ changed: false }))
  const subscription = manager.register('a', poll, 10_000, { onStop })
  await vi.advanceTimersByTimeAsync(300_000)
  expect(onStop).toHaveBeenCalledExactlyOnceWith('inactive')
  const asked = poll.mock.calls.length
  await vi.advanceTimersByTimeAsync(300_000)
  expect(poll).toHaveBeenCalledTimes(asked)
  window.dispatchEvent(new KeyboardEvent('keydown'))
  expect(poll).toHaveBeenCalledTimes(asked + 1)
  await vi.advanceTimersByTimeAsync(0)
  subscription.unregister()
})

test('a poll that has failed starts again when the network returns', async () => {
  const manager = new PollingManager()
  const poll = vi.fn(async () => {
    throw new TypeError('fetch failed')
  })
  const subscription = manager.register('a', poll, 1_000)
  await vi.advanceTimersByTimeAsync(60_000)
  expect(subscription.stopped).toBe('failed')
  expect(poll).toHaveBeenCalledTimes(6)
  window.dispatchEvent(new Event('online'))
  expect(poll).toHaveBeenCalledTimes(7)
  await vi.advanceTimersByTimeAsync(0)
  subscription.unregister()
})

test('where data is to be saved intervals are doubled', async () => {
  const connection = Object.assign(new EventTarget(), { saveData: true })
  vi.stubGlobal('navigator', { connection })
  const manager = new PollingManager()
  const poll = vi.fn(async () => ({ changed: false }))
  const subscription = manager.register('a', poll, 2_000)
  await vi.advanceTimersByTimeAsync(3_999)
  expect(poll).toHaveBeenCalledTimes(1)
  await vi.advanceTimersByTimeAsync(1)
  expect(poll).toHaveBeenCalledTimes(2)
  connection.saveData = false
  connection.dispatchEvent(new Event('change'))
  await vi.advanceTimersByTimeAsync(2_000)
  expect(poll).toHaveBeenCalledTimes(3)
  subscription.unregister()
  vi.unstubAllGlobals()
})

test('nothing listens before the first registration nor after the last', () => {
  const added = vi.spyOn(document, 'addEventListener')
  const manager = new PollingManager()
  expect(added).not.toHaveBeenCalled()
  const subscription = manager.register('a', async () => ({ changed: false }), 2_000)
  expect(added).toHaveBeenCalled()
  subscription.unregister()
  const pause = vi.spyOn(manager, 'hide')
  show('hidden')
  expect(pause).not.toHaveBeenCalled()
})

/** The `matchMedia` of a device with a touch screen and no mouse, or vice versa. */
function media(touch: boolean) {
  const list = Object.assign(new EventTarget(), { matches: touch })
  const asked: string[] = []
  vi.stubGlobal('matchMedia', (query: string) => {
    asked.push(query)
    return list
  })
  return { list, asked }
}

/** The actual interval, in milliseconds, of a poll with an interval of 2 s. */
async function interval(): Promise<number> {
  const manager = new PollingManager()
  const times: number[] = []
  const subscription = manager.register('a', async () => void times.push(performance.now()), 2_000)
  await vi.advanceTimersByTimeAsync(4_000)
  subscription.unregister()
  return (times[1] ?? 0) - (times[0] ?? 0)
}

test.each([
  ['iPhone', { touch: true, navigator: {} }, 4_000],
  ['Firefox on Android', { touch: true, navigator: {} }, 4_000],
  ['Chrome on Android', { touch: true, navigator: { userAgentData: { mobile: true } } }, 4_000],
  ['Chrome on an Android tablet', { touch: true, navigator: { userAgentData: { mobile: false } } }, 4_000],
  ['a desktop', { touch: false, navigator: { userAgentData: { mobile: false } } }, 2_000],
  ['Firefox on a desktop', { touch: false, navigator: {} }, 2_000]
])('intervals on %s', async (_, device, expected) => {
  const { asked } = media(device.touch)
  vi.stubGlobal('navigator', device.navigator)
  expect(await interval()).toBe(expected)
  expect(asked).toEqual(['(hover: none) and (pointer: coarse)'])
  vi.unstubAllGlobals()
})

test('a tablet that gets a mouse is no mobile device any more', async () => {
  const { list } = media(true)
  vi.stubGlobal('navigator', {})
  const manager = new PollingManager()
  const poll = vi.fn(async () => ({ changed: false }))
  const subscription = manager.register('a', poll, 2_000)
  await vi.advanceTimersByTimeAsync(2_000)
  expect(poll).toHaveBeenCalledTimes(1)
  list.matches = false
  list.dispatchEvent(new Event('change'))
  expect(poll).toHaveBeenCalledTimes(2)
  await vi.advanceTimersByTimeAsync(2_000)
  expect(poll).toHaveBeenCalledTimes(3)
  subscription.unregister()
  vi.unstubAllGlobals()
})
