/** Counts what the page asks of the gateway, as it asks. */

export interface Exchange {
  id: number
  method: string
  path: string
  /** Null as long as there is no answer. */
  status: number | 'lost' | 'aborted' | null
  /** Bytes of the answer's body, as far as they have come. */
  bytes: number
}

export interface TrafficTotals {
  requests: number
  /** Answers that say: nothing is new. */
  unchanged: number
  bytes: number
  exchanges: readonly Exchange[]
}

const KEPT = 40

export class Traffic {
  totals: TrafficTotals = { requests: 0, unchanged: 0, bytes: 0, exchanges: [] }
  private readonly listeners = new Set<() => void>()

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener)
    return () => this.listeners.delete(listener)
  }

  readonly snapshot = (): TrafficTotals => this.totals

  /** `fetch`, counted. */
  readonly fetch: typeof fetch = async (input, init) => {
    const url = new URL(String(input), location.href)
    const id = this.totals.requests
    const method = init?.method ?? 'GET'
    const path = decodeURIComponent(url.pathname.replace(/^\/api\/projects\/[^/]+/, '') + url.search)
    this.change({ requests: id + 1 }, { id, method, path, status: null, bytes: 0 })
    try {
      const answer = await fetch(input, init)
      const unchanged = this.totals.unchanged + ([204, 304].includes(answer.status) ? 1 : 0)
      this.change({ unchanged }, { id, method, path, status: answer.status, bytes: 0 })
      return this.counted(id, answer)
    } catch (error) {
      this.change({}, { id, method, path, status: init?.signal?.aborted ? 'aborted' : 'lost', bytes: 0 })
      throw error
    }
  }

  private counted(id: number, answer: Response): Response {
    if (answer.body === null || [204, 304].includes(answer.status)) return answer
    const count = new TransformStream<Uint8Array, Uint8Array>({
      transform: (chunk, controller) => {
        this.count(id, chunk.length)
        controller.enqueue(chunk)
      }
    })
    const { status, statusText, headers } = answer
    return new Response(answer.body.pipeThrough(count), { status, statusText, headers })
  }

  private count(id: number, bytes: number): void {
    const exchange = this.totals.exchanges.find((each) => each.id === id)
    const total = this.totals.bytes + bytes
    this.change({ bytes: total }, exchange && { ...exchange, bytes: exchange.bytes + bytes })
  }

  private change(totals: Partial<TrafficTotals>, exchange?: Exchange): void {
    const others = this.totals.exchanges.filter((each) => each.id !== exchange?.id)
    const exchanges = [...others, ...(exchange ? [exchange] : [])].sort((one, other) => other.id - one.id)
    this.totals = { ...this.totals, ...totals, exchanges: exchanges.slice(0, KEPT) }
    for (const listener of this.listeners) listener()
  }
}
