/** A token, or a function that returns one: called at first, before a JSON Web Token expires, and after a refusal. */
export type Token = string | (() => string | Promise<string>)

/** How long before its expiry a token is replaced. A short-lived token is used for at least half of its lifetime. */
const BEFORE_END_MS = 30_000

/** The bearer token of a client: a fixed token, or a function that is called whenever a new token is needed. */
export class TokenSource {
  private known: string | null
  private until = Number.POSITIVE_INFINITY
  private asking: Promise<string> | null = null

  constructor(
    private readonly token: Token,
    private readonly now: () => number = Date.now
  ) {
    this.known = typeof token === 'string' ? token : null
  }

  /** The current token if it has not expired; null if a new one must be requested. */
  get current(): string | null {
    return this.now() < this.until ? this.known : null
  }

  /** A token that has not expired. */
  usable(): Promise<string> {
    return this.current === null ? this.ask() : Promise.resolve(this.current)
  }

  /** A token other than the refused one; the same one if there is no other. */
  otherThan(refused: string | null): Promise<string> {
    if (this.known !== null && this.known !== refused) return Promise.resolve(this.known)
    return this.ask()
  }

  /** Request a new token. Concurrent callers share one request. */
  private ask(): Promise<string> {
    const { token } = this
    if (typeof token === 'string') return Promise.resolve(token)
    this.asking ??= Promise.resolve()
      .then(token)
      .then((given) => {
        const now = this.now()
        const end = expiryOf(given)
        this.known = given
        this.until = end > now ? Math.max(end - BEFORE_END_MS, now + (end - now) / 2) : Number.POSITIVE_INFINITY
        return given
      })
      .finally(() => {
        this.asking = null
      })
    return this.asking
  }
}

/** The expiry of a JSON Web Token in milliseconds since 1970; infinity if it has none. Nothing is verified. */
function expiryOf(token: string): number {
  const parts = token.split('.')
  if (parts.length !== 3) return Number.POSITIVE_INFINITY
  try {
    const claims = JSON.parse(atob((parts[1] ?? '').replace(/-/g, '+').replace(/_/g, '/'))) as { exp?: unknown }
    return typeof claims.exp === 'number' ? claims.exp * 1000 : Number.POSITIVE_INFINITY
  } catch {
    return Number.POSITIVE_INFINITY
  }
}
