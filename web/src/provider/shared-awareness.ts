import * as encoding from 'lib0/encoding'
import { uuidv4 } from 'lib0/random'
import { type Awareness, applyAwarenessUpdate, removeAwarenessStates } from 'y-protocols/awareness'
import { isProblem } from '../errors.js'
import { retryDelayMs } from '../policy.js'
import type { PollingManager } from '../polling/manager.js'
import { joinFeed, type PollTransport } from '../polling/project-feed.js'
import type { Polled, Subscription } from '../polling/subscription.js'
import type { PresenceAnswer, PresenceEvent } from '../wire.js'
import type { Carried } from './transport.js'

export interface SharedAwarenessOptions {
  manager: PollingManager
  transport: PollTransport
  interval: number | undefined
}

/** Milliseconds within which changes of the state are sent as one. */
const BATCH_MS = 100
const TTL_S = 60
const RENEW_MS = 25_000

interface Change {
  added: number[]
  updated: number[]
  removed: number[]
}

/** Shares an awareness with the other clients of a file through the presence requests, without a room. */
export class SharedAwareness {
  private readonly key: string
  private subscription: Subscription<void> | null = null
  private leaveFeed: () => void = () => undefined
  private tag: string | null = null
  /** The clients that the gateway has reported. */
  private others = new Set<number>()
  /** The number of presence events received. */
  private heard = 0
  private timer: ReturnType<typeof setTimeout> | undefined
  private saying: AbortController | null = null
  /** Whether the state has changed since it was last sent. */
  private unsaid = false
  /** Whether the gateway may know that this client is in the file. */
  private present = false
  private attempts = 0

  constructor(
    private readonly carried: Carried,
    private readonly awareness: Awareness,
    private readonly options: SharedAwarenessOptions
  ) {
    this.key = `presence ${carried.project.url} ${carried.path} ${uuidv4()}`
  }

  connect(): void {
    if (this.subscription !== null) return
    const { manager, transport, interval } = this.options
    const { project, path } = this.carried
    this.subscription = manager.register<void>(this.key, ({ signal }) => this.ask(signal), interval)
    this.leaveFeed = joinFeed(manager, project, transport, this.key, () => false, {
      presence: (event) => event.path === path && this.hear(event)
    })
    this.awareness.on('update', this.updated)
    if (this.awareness.getLocalState() !== null) this.say(BATCH_MS)
  }

  /** Leave the file: withdraw this client, and remove the other clients from the awareness. */
  disconnect(): void {
    if (this.subscription === null) return
    this.awareness.off('update', this.updated)
    this.leaveFeed()
    this.subscription.unregister()
    this.subscription = null
    clearTimeout(this.timer)
    this.unsaid = false
    this.forget([...this.others])
    this.tag = null
    if (this.saying !== null)
      this.saying.abort() // `send` withdraws this client
    else if (this.present) this.leave()
    this.saying = null
  }

  private readonly updated = ({ added, updated, removed }: Change, origin: unknown): void => {
    const own = this.awareness.clientID
    if (origin !== this && [...added, ...updated, ...removed].includes(own)) this.say(BATCH_MS)
  }

  // The state of this client

  private say(delay: number): void {
    this.unsaid = true
    if (this.saying !== null) return
    clearTimeout(this.timer)
    this.timer = setTimeout(() => void this.send(), delay)
  }

  private async send(): Promise<void> {
    const { project, path } = this.carried
    const { clientID } = this.awareness
    const state = this.awareness.getLocalState()
    this.unsaid = false
    if (state === null) {
      if (this.present) this.leave()
      return
    }
    this.saying = new AbortController()
    const { signal } = this.saying
    this.present = true
    const clock = this.awareness.meta.get(clientID)?.clock ?? 0
    const { heard } = this
    // The request is never aborted: it could reach the gateway after the one that withdraws this client.
    const answer = await project.putPresence(path, clientID, state, { ttl: TTL_S, clock }).catch(() => null)
    if (signal.aborted) {
      if (this.subscription === null) this.leave()
      return
    }
    let next = RENEW_MS
    if (answer === null) {
      this.attempts += 1
      next = retryDelayMs(this.options.manager.settings, this.attempts, Math.random())
    } else {
      this.attempts = 0
      this.takeAnswer(heard, answer.tag, answer.value)
    }
    this.saying = null
    this.timer = setTimeout(() => void this.send(), this.unsaid ? BATCH_MS : next)
  }

  private leave(): void {
    const { project, path } = this.carried
    this.present = false
    project.deletePresence(path, this.awareness.clientID, { keepalive: true }).catch(() => undefined)
  }

  // The states of the other clients

  private async ask(signal: AbortSignal): Promise<Polled<void>> {
    const { project, path } = this.carried
    const { heard } = this
    try {
      const { value, tag, backoffS } = await project.presence(path, { tag: this.tag, signal })
      if (value === null) this.renew()
      else this.takeAnswer(heard, tag, value)
      return { changed: value !== null, backoffS }
    } catch (error) {
      if (!isProblem(error, 'project_not_found', 'file_not_found')) throw error
      return { changed: false } // the first write creates the project
    }
  }

  private hear(event: PresenceEvent): void {
    this.heard += 1
    this.take(event)
  }

  /**
   * Take the answer to a request, which was sent when `heard` events had been received. If an event came in between, the
   * answer may be older than that; if it is newer, another event follows.
   */
  private takeAnswer(heard: number, tag: string | null, answer: PresenceAnswer): void {
    if (heard !== this.heard) return
    this.tag = tag
    this.take(answer)
  }

  private take(answer: PresenceAnswer): void {
    if (this.subscription === null) return
    const { awareness } = this
    const clients = answer.clients.filter(({ client_id }) => client_id !== awareness.clientID)
    const known = this.others
    this.others = new Set(clients.map(({ client_id }) => client_id))
    this.forget([...known].filter((client) => !this.others.has(client)))
    applyAwarenessUpdate(awareness, encoded(clients), this)
    this.renew()
  }

  /** Keep the other clients alive even if their states have not changed: the gateway reports who has left. */
  private renew(): void {
    for (const client of this.others) {
      const meta = this.awareness.meta.get(client)
      if (meta !== undefined) meta.lastUpdated = Date.now()
    }
  }

  private forget(clients: number[]): void {
    for (const client of clients) this.others.delete(client)
    removeAwarenessStates(this.awareness, clients, this)
    for (const client of clients) this.awareness.meta.delete(client) // so that a returning client is accepted
  }
}

/** Encode states in the y-protocols format. */
function encoded(clients: PresenceAnswer['clients']): Uint8Array {
  const encoder = encoding.createEncoder()
  encoding.writeVarUint(encoder, clients.length)
  for (const { client_id, clock, state } of clients) {
    encoding.writeVarUint(encoder, client_id)
    encoding.writeVarUint(encoder, clock)
    encoding.writeVarString(encoder, JSON.stringify(state))
  }
  return encoding.toUint8Array(encoder)
}
