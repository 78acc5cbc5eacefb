/** A real browser: Debian's Chromium, or the program named by CHROMIUM. */
import { existsSync } from 'node:fs'
import { type Browser, chromium } from 'playwright-core'

const PROGRAM = process.env.CHROMIUM ?? '/usr/bin/chromium'

/** Without a browser its tests are skipped, unless CI is set. */
export const HAS_BROWSER = existsSync(PROGRAM) || process.env.CI !== undefined

/** Each start uses a new user data directory. */
export function startBrowser(): Promise<Browser> {
  const args = [
    '--no-sandbox',
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync'
  ]
  return chromium.launch({ executablePath: PROGRAM, headless: true, args })
}
