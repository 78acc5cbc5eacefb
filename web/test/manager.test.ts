import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { GatewayError } from '../src/errors.js'
import { PollingManager } from '../src/polling/manager.js'
import type { Polled, Subscription } from '../src/polling/subscription.js'
import { camelCased, VECTORS, type Vector, type VectorEvent } from './support/vectors.js'

beforeEach(() => {
  vi.useFakeTimers()
})

afterEach(() => {
  expect(vi.getTimerCount()).toBe(0)
  vi.useRealTimers()
  vi.restoreAllMocks()
})

interface Request {
  resolve(polled: Polled<unknown>): void
  reject(error: Error): void
}

/** Plays a vector to a manager with its timers, and records what is visible from outside. */
class Stage {
  readonly noted: { at: number; do: string; key: string; [member: string]: unknown }[] = []
  private readonly began = performance.now()
  private readonly manager: PollingManager
  private readonly requests = new Map<string, Request>()
  private readonly subscriptions = new Map<string, Subscription<unknown>>()
  private held: (() => void)[] = []
  private holding = false

  constructor(private readonly vector: Vector) {
    const settings = { inactiveStopMs: 300_000, ...camelCased(vector.settings) }
    const random = () => vector.random ?? 0.5
    this.manager = new PollingManager({ settings, random, onFault: (_, error) => expect.unreachable(String(error)) })
    vi.spyOn(console, 'warn').mockImplementation((text: string) => {
      this.note('warn_fast_loop', /polls of (\S+)/.exec(text)?.[1] ?? '')
    })
  }

  async run() {
    for (const event of this.vector.events) {
      await vi.advanceTimersByTimeAsync(event.at - this.now())
      this.play(event)
      await vi.advanceTimersByTimeAsync(0)
    }
    const noted = [...this.noted]
    for (const subscription of this.subscriptions.values()) subscription.unregister()
    return noted
  }

  private play({ event: name, held, ...members }: VectorEvent): void {
    const { key, subscriber } = members as unknown as { key: string; subscriber: string }
    const { manager } = this
    this.holding = held === true
    switch (name) {
      case 'answer':
        return this.request(key)?.resolve({ ...camelCased(members), value: 'news' })
      case 'failure':
        return this.request(key)?.reject(failure(members))
      case 'register':
        return this.register(key, subscriber, members)
      case 'enable':
      case 'disable':
        return this.subscriptions.get(`${key} ${subscriber}`)?.enable(name === 'enable')
      case 'unregister':
        return this.subscriptions.get(`${key} ${subscriber}`)?.unregister()
      case 'refresh':
        return this.refresh(key, members.waiter as string)
      case 'delivered':
        for (const release of this.held.splice(0)) release()
        return
      case 'constrain':
        return manager.constrain(members.constrained as boolean)
      case 'touch':
      case 'pause':
      case 'resume':
      case 'online':
        return manager[name]()
      case 'note_write':
        return manager.noteWrite(key)
      case 'signal':
        return manager[name](key)
      case 'upgrade':
      case 'downgrade':
        return manager.upgrade(key, name === 'upgrade')
    }
  }

  private register(key: string, name: string, members: Record<string, unknown>): void {
    const { turnIntervalMs, documentIntervalMs } = this.manager.settings
    const interval = members.interval_ms ?? (members.kind === 'turn' ? turnIntervalMs : documentIntervalMs)
    const { enabled, cursor } = members as { enabled?: boolean; cursor?: string }
    const subscription = this.manager.register(
      key,
      ({ signal }) => {
        this.note('poll', key)
        signal.addEventListener('abort', () => this.note('abort', key))
        return new Promise<Polled<unknown>>((resolve, reject) => this.requests.set(key, { resolve, reject }))
      },
      interval as number,
      {
        enabled,
        cursor,
        onResult: () => {
          this.note('deliver', key, { to: name })
          if (this.holding) return new Promise<void>((resolve) => this.held.push(resolve))
        },
        onError: () => this.note('fail', key, { to: name }),
        onStop: (reason) => this.note('stop', key, { reason, to: name })
      }
    )
    this.subscriptions.set(`${key} ${name}`, subscription)
  }

  private refresh(key: string, waiter: string): void {
    this.manager.refresh(key).then(
      () => this.note('deliver', key, { to: waiter }),
      (error: Error) => error.name !== 'AbortError' && this.note('fail', key, { to: waiter })
    )
  }

  private request(key: string): Request | undefined {
    const request = this.requests.get(key)
    this.requests.delete(key)
    return request
  }

  private note(act: string, key: string, members: object = {}): void {
    this.noted.push({ at: this.now(), do: act, key, ...members })
  }

  private now(): number {
    return performance.now() - this.began
  }
}

function failure({ status, retry_after_s, backoff_s }: Record<string, unknown>): GatewayError {
  const error = new GatewayError('as the vector says', status as number | null)
  error.retryAfterS = (retry_after_s as number | undefined) ?? null
  error.backoffS = (backoff_s as number | undefined) ?? null
  return error
}

/** The decisions that are visible from outside; the vectors do not say who was notified of a stop. */
function visible(decisions: Record<string, unknown>[], kind: string): string[] {
  const kept = decisions.filter((decision) => decision.do === kind)
  const told = kept.flatMap(({ to, ...decision }) =>
    kind === 'stop' || to === undefined ? [decision] : [to].flat().map((name) => ({ ...decision, to: name }))
  )
  const lines = told.map(({ at, key, to, reason }) => JSON.stringify([round(at as number), key, to, reason]))
  return kind === 'stop' ? [...new Set(lines)] : lines
}

/** Timers have a resolution of one millisecond. */
function round(time: number): number {
  return Math.round(time / 2) * 2
}

// A request that was overtaken (`based_on`) cannot be produced from outside.
const PLAYED = VECTORS.filter(
  ({ events }) => !events.some((event) => event.based_on || event.event === 'refused_write')
)

describe('the manager does what the vectors say', () => {
  test.each(PLAYED.map((vector) => [`${vector.row}: ${vector.name}`, vector] as const))('%s', async (_, vector) => {
    const noted = await new Stage(vector).run()
    for (const kind of ['poll', 'abort', 'deliver', 'fail', 'stop', 'warn_fast_loop']) {
      expect(visible(noted, kind), kind).toEqual(visible(vector.decisions, kind))
    }
  })
})

describe('a manager', () => {
  test('shares one request among those who register one key, and tells each', async () => {
    const manager = new PollingManager()
    const poll = vi.fn(async () => ({ value: 1 }))
    const told: string[] = []
    const one = manager.register('a', poll, 2_000, { onResult: () => told.push('one') })
    const other = manager.register('a', poll, 5_000, { onResult: () => told.push('other') })
    await vi.advanceTimersByTimeAsync(0)
    expect(poll).toHaveBeenCalledTimes(1)
    expect(told).toEqual(['one', 'other'])
    one.unregister()
    other.unregister()
  })

  test('calls nobody back after unregister, and aborts the request in flight', async () => {
    const manager = new PollingManager()
    const onResult = vi.fn()
    const onError = vi.fn()
    let aborted: AbortSignal | undefined
    let answer: (polled: Polled<number>) => void = () => undefined
    manager.register(
      'a',
      ({ signal }) => {
        aborted = signal
        return new Promise((resolve) => {
          answer = resolve
        })
      },
      1_000,
      { onResult, onError }
    )
    manager.unregister('a')
    expect(aborted?.aborted).toBe(true)
    answer({ value: 1 })
    await vi.advanceTimersByTimeAsync(10_000)
    expect(onResult).not.toHaveBeenCalled()
    expect(onError).not.toHaveBeenCalled()
  })

  test('retries what any poll function throws, and tells of it each time', async () => {
    const manager = new PollingManager({ random: () => 0.5 })
    const errors: string[] = []
    const stops: string[] = []
    const poll = async () => {
      throw new TypeError('fetch failed')
    }
    const subscription = manager.register('a', poll, 1_000, {
      onError: (error) => errors.push(error.message),
      onStop: (reason) => stops.push(reason)
    })
    await vi.advanceTimersByTimeAsync(46_000)
    expect(errors).toEqual(Array(6).fill('fetch failed'))
    expect(stops).toEqual(['failed'])
    expect(subscription.stopped).toBe('failed')
    expect(subscription.error).toBeInstanceOf(TypeError)
    subscription.unregister()
  })

  test('lets a callback that throws harm nobody else', async () => {
    const faults: unknown[] = []
    const manager = new PollingManager({ onFault: (_, error) => faults.push(error) })
    const other = vi.fn()
    const fault = new Error('a mistake of the application')
    manager.register('a', async () => ({ value: 1 }), 1_000, {
      onResult: () => {
        throw fault
      }
    })
    manager.register('a', async () => ({ value: 1 }), 1_000, { onResult: other })
    await vi.advanceTimersByTimeAsync(0)
    expect(other).toHaveBeenCalledWith(1)
    expect(faults).toEqual([fault])
    manager.unregister('a')
  })

  test('gives to whoever refreshes what the request brings, or its error', async () => {
    const manager = new PollingManager()
    let value = 1
    const subscription = manager.register('a', async () => ({ value: value++ }), 60_000)
    await vi.advanceTimersByTimeAsync(1_000)
    await expect(manager.refresh('a')).resolves.toBe(2)
    await expect(manager.refresh('b')).rejects.toThrow(RangeError)
    subscription.unregister()
  })
})
