// Sends random histories to a gateway and compares every version that it makes with what Yjs makes of the same updates.
// Reads {"project", "seed", "histories", "at_once"} from stdin. Writes a line of JSON for each history to stdout: its
// seed, and `failure`, or all that was fetched with the JSON that Yjs makes of it, for another reader to compare.
import { once } from 'node:events'
import { connections, readRequest } from './gateway_file.mjs'
import { Replay } from './replay.mjs'

const request = await readRequest()
const agent = connections(request.at_once)
process.stdout.setMaxListeners(request.at_once + 1) // the reader may be slower
let next = 0
const work = async () => {
  while (next < request.histories) {
    const seed = request.seed + next++
    let result
    try {
      const replay = new Replay(seed, request.project, agent)
      await replay.run()
      result = { seed, ...replay.result }
    } catch (error) {
      result = { seed, failure: String(error.stack) }
    }
    if (!process.stdout.write(JSON.stringify(result) + '\n')) await once(process.stdout, 'drain')
  }
}
await Promise.all(Array.from({ length: request.at_once }, work))
agent.destroy()
