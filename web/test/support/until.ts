import { inspect } from 'node:util'

/** The time limit for `vi.waitFor`, whose default of one second is too short on a loaded machine. */
export const PATIENCE = { timeout: 60_000, interval: 10 }

/** Records the values passed to a callback, so that a test can wait for them. */
export class Heard<T> {
  readonly all: T[] = []
  private waiting: (() => void)[] = []

  readonly hear = (value: T): void => {
    this.all.push(value)
    for (const wake of this.waiting.splice(0)) wake()
  }

  /** The first recorded or future value that fulfils the condition. */
  async until(wanted: (value: T) => boolean = () => true): Promise<T> {
    let limit: ReturnType<typeof setTimeout> | undefined
    const silence = new Promise<void>((_, reject) => {
      limit = setTimeout(() => reject(new Error(`only this came: ${inspect(this.all)}`)), PATIENCE.timeout)
    })
    try {
      for (let next = 0; ; ) {
        for (; next < this.all.length; next += 1) {
          const value = this.all[next] as T
          if (wanted(value)) return value
        }
        await Promise.race([silence, new Promise<void>((resolve) => this.waiting.push(resolve))])
      }
    } finally {
      clearTimeout(limit)
    }
  }
}
