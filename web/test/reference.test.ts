/** The API reference in Chromium: from the gateway alone, within the page's Content-Security-Policy. */
import type { Browser } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { HAS_BROWSER, startBrowser } from './support/browser.js'
import { GatewayProcess } from './support/gateway.js'

const WATCH_POLICY = `
  addEventListener('securitypolicyviolation', ({ violatedDirective, blockedURI, sourceFile, sample }) =>
    noteViolation(['policy', violatedDirective, blockedURI, sourceFile, sample].join(' ')))
`
const gateway = new GatewayProcess()
let browser: Browser

describe.skipIf(!HAS_BROWSER)('The API reference in Chromium', () => {
  beforeAll(async () => {
    await gateway.start()
    browser = await startBrowser()
  })

  afterAll(async () => {
    await browser.close()
    await gateway.stop()
  })

  test('shows every operation, and tries one out', async () => {
    await gateway.project('demo').putText('a.md', 'the text of a file')
    const faults: string[] = []
    const page = await browser.newPage({ viewport: { width: 1200, height: 900 } })
    await page.exposeFunction('noteViolation', (what: string) => faults.push(what))
    await page.addInitScript(WATCH_POLICY)
    page.on('pageerror', (fault) => faults.push(String(fault)))
    page.on('request', (request) => {
      if (!request.url().startsWith(gateway.url) && !request.url().startsWith('data:')) faults.push(request.url())
    })
    await page.goto(`${gateway.url}/docs`)
    await page.locator('.opblock').first().waitFor()
    const { paths } = (await (await fetch(`${gateway.url}/openapi.json`)).json()) as {
      paths: Record<string, Record<string, unknown>>
    }
    const operations = Object.values(paths).reduce((sum, methods) => sum + Object.keys(methods).length, 0)
    await expect.poll(() => page.locator('.opblock').count()).toBe(operations)

    const operation = page.locator('.opblock-get', { hasText: '/api/projects/{project}/files/{path}' }).first()
    await operation.locator('.opblock-summary-control').click()
    await operation.locator('tr[data-param-name=project] input').fill('demo')
    await operation.locator('tr[data-param-name=path] input').fill('a.md')
    await operation.locator('tr[data-param-name=format] select').selectOption('text')
    await operation.getByRole('button', { name: 'Execute' }).click()
    await operation.locator('.live-responses-table', { hasText: 'the text of a file' }).waitFor()
    if (process.env.SCREENSHOTS) await page.screenshot({ path: `${process.env.SCREENSHOTS}/reference.png` })
    expect(faults).toEqual([])
  })
})
