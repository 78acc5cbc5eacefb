/** For `vi.waitFor`, which gives up after a second: so long a loaded machine may take. */
export const PATIENCE = { timeout: 25_000, interval: 10 }

/** The values that a callback is given, to be waited for. */
export class Heard<T> {
  readonly all: T[] = []
  private waiting: (() => void)[] = []

  readonly hear = (value: T): void => {
    this.all.push(value)
    for (const wake of this.waiting.splice(0)) wake()
  }

  /** The first value, heard already or to come, that is as it should be. */
  async until(wanted: (value: T) => boolean = () => true): Promise<T> {
    for (let next = 0; ; ) {
      for (; next < this.all.length; next += 1) {
        const value = this.all[next] as T
        if (wanted(value)) return value
      }
      await new Promise<void>((resolve) => this.waiting.push(resolve))
    }
  }
}
