/** GraphiQL in Chromium: from the gateway alone, within the page's Content-Security-Policy. */
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { HAS_BROWSER, startBrowser } from './support/browser.js'
import { GatewayProcess } from './support/gateway.js'

const WATCH_POLICY = `
  addEventListener('securitypolicyviolation', ({ violatedDirective, blockedURI, sourceFile, lineNumber, sample }) =>
    noteViolation(['policy', violatedDirective, blockedURI, sourceFile, lineNumber, sample].join(' ')))
`
const gateway = new GatewayProcess()
let browser: Browser

describe.skipIf(!HAS_BROWSER)('GraphiQL in Chromium', () => {
  beforeAll(async () => {
    await gateway.start()
    browser = await startBrowser()
  })

  afterAll(async () => {
    await browser.close()
    await gateway.stop()
  })

  /** The button lists the operations once GraphiQL has read them; before that, it runs the text as a whole. */
  const run = async (page: Page, operation: string): Promise<void> => {
    const button = page.getByRole('button', { name: 'Execute query' })
    await button.and(page.locator('[aria-haspopup=menu]')).click()
    await page.getByRole('menuitem', { name: operation }).click()
  }

  test('runs a query and follows a subscription, and asks nobody but the gateway', async () => {
    const project = gateway.project('demo')
    await project.putText('a.md', 'one')
    const faults: string[] = []
    const page = await browser.newPage({ viewport: { width: 1200, height: 800 } })
    await page.exposeFunction('noteViolation', (what: string) => faults.push(what))
    await page.addInitScript(WATCH_POLICY)
    page.on('pageerror', (fault) => faults.push(String(fault)))
    page.on('request', (request) => {
      if (!request.url().startsWith(gateway.url) && !request.url().startsWith('data:')) faults.push(request.url())
    })
    await page.goto(`${gateway.url}/graphiql`)
    const result = page.locator('.result-window')
    await run(page, 'Files')
    await result.getByText('"a.md"').first().waitFor()
    await run(page, 'Changes')
    await result.getByText('"one"').waitFor()
    await project.putText('a.md', 'two')
    await result.getByText('"two"').waitFor()
    await page.getByRole('button', { name: 'Stop query' }).click()
    await page.getByRole('button', { name: 'Show Documentation Explorer' }).click()
    await page.getByRole('link', { name: 'Subscription', exact: true }).click()
    await page.getByRole('button', { name: 'Open settings dialog' }).click()
    await page.getByRole('dialog').waitFor()
    expect(faults).toEqual([])
    await page.close()
  })
})
