// One file of a gateway as a client in Node.js sees it, over connections that are kept alive.
import http from 'node:http'
import * as Y from 'yjs'

export class Problem extends Error {
  constructor (status, details) {
    super(`${status} ${details.code}: ${details.detail}`)
    this.status = status
    this.code = details.code
    this.stateVector = details.state_vector && new Uint8Array(Buffer.from(details.state_vector, 'base64url'))
  }
}

// A pool of at most so many connections.
export const connections = (maxSockets) => new http.Agent({ keepAlive: true, maxSockets })

const exchange = (url, options, body) => new Promise((resolve, reject) => {
  const request = http.request(url, options, (response) => {
    const chunks = []
    response.on('data', (chunk) => chunks.push(chunk))
    response.on('error', reject)
    response.on('end', () => resolve({
      status: response.statusCode, headers: response.headers, body: Buffer.concat(chunks)
    }))
  })
  request.on('error', reject)
  request.end(body)
})

export class GatewayFile {
  constructor (project, path, agent) {
    this.url = `${project}/files/${path}`
    this.agent = agent
  }

  async _ask (method, query, headers, body) {
    const answer = await exchange(this.url + query, { method, agent: this.agent, headers }, body)
    if (answer.status >= 400) throw new Problem(answer.status, JSON.parse(answer.body.toString()))
    return answer
  }

  async _write (method, type, body, query = '') {
    const headers = { 'Content-Type': type, 'Content-Length': body.length }
    return JSON.parse((await this._ask(method, query, headers, body)).body.toString())
  }

  // Sends an update; resolves to the receipt, throws a Problem.
  patch (update) {
    return this._write('PATCH', 'application/octet-stream', update)
  }

  // Makes the text of the file another one; resolves to the receipt.
  put (text) {
    return this._write('PUT', 'text/plain; charset=utf-8', Buffer.from(text), '?root=content')
  }

  // Makes the content what it was at a version; resolves to the receipt.
  async restore (version) {
    const url = this.url.replace('/files/', '/history/') + '/restore'
    const headers = { 'Content-Type': 'application/json' }
    const answer = await exchange(url, { method: 'POST', agent: this.agent, headers }, JSON.stringify({ version }))
    const receipt = JSON.parse(answer.body.toString())
    if (answer.status >= 400) throw new Problem(answer.status, receipt)
    return receipt
  }

  // What changed in the text from one version to another, as ranges.
  async difference (older, newer) {
    const url = `${this.url.replace('/files/', '/history/')}?diff=${older}..${newer}&format=json&root=content`
    const { status, body } = await exchange(url, { method: 'GET', agent: this.agent })
    const answer = JSON.parse(body.toString())
    if (status >= 400) throw new Problem(status, answer)
    return answer
  }

  // The file by one way of fetching: its bytes, its version and the version that they build on; null for a 204.
  async get (parameters = {}) {
    const query = new URLSearchParams(parameters).toString()
    const { status, headers, body } = await this._ask('GET', query && `?${query}`, {})
    if (status === 204) return null
    return { body: new Uint8Array(body), version: Number(headers['x-version']), buildsOn: Number(headers['x-from-version']) }
  }

  // All roots of the file.
  async json (parameters = {}) {
    return JSON.parse(Buffer.from((await this.get({ format: 'json', ...parameters })).body).toString())
  }
}

// Sends an update of `doc`. Where the gateway lacks what it builds on, all of it or a part, sends what `doc` has and the
// gateway lacks; resolves to whether that was so.
export const patchWhole = async (file, update, doc) => {
  let stateVector
  try {
    const receipt = await file.patch(update)
    if (!receipt.incomplete) return false
    stateVector = new Uint8Array(Buffer.from(receipt.state_vector, 'base64url'))
  } catch (problem) {
    if (problem.code !== 'missing_predecessors') throw problem
    stateVector = problem.stateVector
  }
  const receipt = await file.patch(Y.encodeStateAsUpdate(doc, stateVector))
  if (receipt.incomplete) throw new Error('what the gateway asked for is incomplete')
  return true
}

// The JSON that a script is started with.
export const readRequest = async () => {
  const chunks = []
  for await (const chunk of process.stdin) chunks.push(chunk)
  return JSON.parse(Buffer.concat(chunks).toString())
}
