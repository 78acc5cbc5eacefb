/** Base64 for every platform with `atob`: pages, workers and Node.js. (lib0 mistakes a worker for Node.js.) */

const PIECE = 0x8000

export function toBase64(data: Uint8Array): string {
  let text = ''
  for (let start = 0; start < data.length; start += PIECE) {
    text += String.fromCharCode(...data.subarray(start, start + PIECE))
  }
  return btoa(text)
}

export function fromBase64(text: string): Uint8Array {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0))
}

export function toBase64Url(data: Uint8Array): string {
  return toBase64(data).replaceAll('+', '-').replaceAll('/', '_').replace(/=+$/, '')
}

export function fromBase64Url(text: string): Uint8Array {
  return fromBase64(text.replaceAll('-', '+').replaceAll('_', '/'))
}
