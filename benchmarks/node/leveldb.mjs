// Stores the updates of one document with y-leveldb, one after the other, and says how many bytes its folder has then.
// node leveldb.mjs FOLDER < updates, each after its length in four bytes (big-endian)
import { LeveldbPersistence } from 'y-leveldb'
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'

const folder = process.argv[2]
const input = readFileSync(0)
const persistence = new LeveldbPersistence(folder)
for (let at = 0; at < input.length;) {
  const length = input.readUInt32BE(at)
  await persistence.storeUpdate('document', new Uint8Array(input.subarray(at + 4, at + 4 + length)))
  at += 4 + length
}
await persistence.destroy()
console.log(readdirSync(folder).reduce((size, name) => size + statSync(join(folder, name)).size, 0))
