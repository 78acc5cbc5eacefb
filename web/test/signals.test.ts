// @vitest-environment jsdom
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { PollingManager } from '../src/manager.js'

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
