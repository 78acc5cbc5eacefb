/** Webhooks received in Node.js, verified by npm's `standardwebhooks`. */
import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Webhook } from 'standardwebhooks'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { GatewayProcess } from './support/gateway.js'
import { PATIENCE } from './support/until.js'

const gateway = new GatewayProcess({ GATEWAY_HOOK_HOSTS: '127.0.0.1' })
const received: [IncomingHttpHeaders, string][] = []
const receiver = createServer((request, answer) => {
  const parts: Buffer[] = []
  request.on('data', (part) => parts.push(part))
  request.on('end', () => {
    received.push([request.headers, Buffer.concat(parts).toString()])
    answer.writeHead(204).end()
  })
})

beforeAll(async () => {
  await once(receiver.listen(0, '127.0.0.1'), 'listening')
  await gateway.start()
})

afterAll(async () => {
  receiver.close()
  await gateway.stop()
})

test("npm's standardwebhooks verifies a message, and no message with another secret or another body", async () => {
  const project = gateway.project()
  await project.putText('notes.md', 'Ein Wörtchen')
  const body = JSON.stringify({ url: `http://127.0.0.1:${(receiver.address() as AddressInfo).port}/`, include: 'text' })
  const made = await project.client.send('PUT', `${project.path}/hooks/ci`, {
    headers: { 'Content-Type': 'application/json' },
    body
  })
  const { secret } = (await made.json()) as { secret: string }
  const { cursor } = (await project.putText('notes.md', 'Ein Wörtchen mehr')).value
  // Delivered again where the answer comes late.
  await vi.waitFor(() => expect(received.length).toBeGreaterThan(0), PATIENCE)
  const [headers, message] = received[0] as [Record<string, string>, string]
  const webhook = new Webhook(secret)
  expect(webhook.verify(message, headers)).toMatchObject({ type: 'changes', hook: 'ci', cursor })
  expect(() => webhook.verify(message.replace('changes', 'Changes'), headers)).toThrow()
  expect(() => new Webhook(btoa('another secret')).verify(message, headers)).toThrow()
})
