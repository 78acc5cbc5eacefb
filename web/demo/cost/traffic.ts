/** Counts the requests of this page, and the bytes of their bodies before compression. */

export interface Exchange {
  id: number
  method: string
  path: string
  /** Null while there is no response. */
  status: number | 'lost' | 'aborted' | null
  /** The bytes of the response body received so far. */
  bytes: number
}

export interface TrafficTotals {
  requests: number
  /** The number of responses without news. */
  unchanged: number
  received: number
  sent: number
  exchanges: readonly Exchange[]
}

const KEPT = 40

export class Traffic {
  totals: TrafficTotals = { requests: 0, unchanged: 0, received: 0, sent: 0, exchanges: [] }
  private readonly listeners = new Set<() => void>()

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener)
    return () => this.listeners.delete(listener)
  }

  readonly snapshot = (): TrafficTotals => this.totals

  /** A `fetch` that counts requests. */
  readonly fetch: typeof fetch = async (input, init) => {
    const url = new URL(String(input), location.href)
    const id = this.begin(init?.method ?? 'GET', url)
    this.change({ sent: this.totals.sent + sizeOf(init?.body) })
    try {
      const answer = await fetch(input, init)
      const unchanged = this.totals.unchanged + ([204, 304].includes(answer.status) ? 1 : 0)
      this.change({ unchanged }, { id, status: answer.status })
      return this.counted(id, answer)
    } catch (error) {
      this.change({}, { id, status: init?.signal?.aborted ? 'aborted' : 'lost' })
      throw error
    }
  }

  /** A `WebSocket` that counts its handshake as a request, and the bytes of its messages. */
  readonly WebSocket = countedSocket(this)

  begin(method: string, url: URL): number {
    const id = this.totals.requests
    const path = decoded(url.pathname.replace(/^\/api\/projects\/[^/]+/, '') + url.search)
    const exchange: Exchange = { id, method, path, status: null, bytes: 0 }
    this.change({ requests: id + 1, exchanges: [exchange, ...this.totals.exchanges].slice(0, KEPT) })
    return id
  }

  end(id: number, status: Exchange['status']): void {
    this.change({}, { id, status })
  }

  receive(id: number, bytes: number): void {
    const exchange = this.totals.exchanges.find((each) => each.id === id)
    this.change({ received: this.totals.received + bytes }, { id, bytes: (exchange?.bytes ?? 0) + bytes })
  }

  send(bytes: number): void {
    this.change({ sent: this.totals.sent + bytes })
  }

  private counted(id: number, answer: Response): Response {
    if (answer.body === null || [204, 304].includes(answer.status)) return answer
    const count = new TransformStream<Uint8Array, Uint8Array>({
      transform: (chunk, controller) => {
        this.receive(id, chunk.length)
        controller.enqueue(chunk)
      }
    })
    const { status, statusText, headers } = answer
    return new Response(answer.body.pipeThrough(count), { status, statusText, headers })
  }

  private change(totals: Partial<TrafficTotals>, exchange?: Partial<Exchange> & { id: number }): void {
    const before = totals.exchanges ?? this.totals.exchanges
    const exchanges =
      exchange === undefined
        ? before
        : before.map((each) => (each.id === exchange.id ? { ...each, ...exchange } : each))
    this.totals = { ...this.totals, ...totals, exchanges }
    for (const listener of this.listeners) listener()
  }
}

/** Create a `WebSocket` class whose messages a `Traffic` counts. */
function countedSocket(traffic: Traffic): typeof WebSocket {
  return class extends WebSocket {
    constructor(url: string | URL, protocols?: string | string[]) {
      super(url, protocols)
      const id = traffic.begin('WS', new URL(url))
      this.addEventListener('open', () => traffic.end(id, 101))
      this.addEventListener('close', () => traffic.end(id, 'lost'))
      this.addEventListener('message', ({ data }) => traffic.receive(id, sizeOf(data)))
    }

    override send(data: string | ArrayBufferLike | Blob | ArrayBufferView): void {
      traffic.send(sizeOf(data))
      super.send(data as BufferSource)
    }
  }
}

function sizeOf(body: unknown): number {
  if (typeof body === 'string') return new TextEncoder().encode(body).length
  if (body instanceof ArrayBuffer || ArrayBuffer.isView(body)) return body.byteLength
  return body instanceof Blob ? body.size : 0
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}
