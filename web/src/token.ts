/** A token, or what gives one: asked at first, before a JSON Web Token ends, and where the gateway refused one. */
export type Token = string | (() => string | Promise<string>)

/** How long before its end a token is not used any more; a short one is used for half of its life at least. */
const BEFORE_END_MS = 30_000

/** The token of a client: fixed, or asked for whenever another one is needed. */
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

  /** The token that should still count; null where one has to be asked for. */
  get current(): string | null {
    return this.now() < this.until ? this.known : null
  }

  /** A token that should still count. */
  usable(): Promise<string> {
    return this.current === null ? this.ask() : Promise.resolve(this.current)
  }

  /** A token after one was refused: the same where there is no other. */
  otherThan(refused: string | null): Promise<string> {
    if (this.known !== null && this.known !== refused) return Promise.resolve(this.known)
    return this.ask()
  }

  /** All who need another one at the same time are given the same. */
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

/** When a JSON Web Token ends, in milliseconds since 1970; infinity where it does not tell. Nothing is verified. */
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
