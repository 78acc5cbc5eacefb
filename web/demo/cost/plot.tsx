import type { Point } from './comparison.js'

const WIDTH = 300
const HEIGHT = 72

/** Plots bytes over time, of this page and of the other client. The table beside the plot has the same data. */
export function Plot({ points }: { points: Point[] }) {
  const top = Math.max(1, ...points.map(({ here, there }) => Math.max(here.bytes, there.bytes)))
  const first = points[0]?.seconds ?? 0
  const span = Math.max(1, (points.at(-1)?.seconds ?? 0) - first)
  const line = (who: 'here' | 'there') =>
    points
      .map((point) => `${((point.seconds - first) / span) * WIDTH},${HEIGHT - (point[who].bytes / top) * HEIGHT}`)
      .join(' ')
  return (
    <svg className="plot" viewBox={`0 -2 ${WIDTH} ${HEIGHT + 4}`} preserveAspectRatio="none" aria-hidden="true">
      <polygon className="there" points={`0,${HEIGHT} ${line('there')} ${WIDTH},${HEIGHT}`} />
      <polyline className="there" points={line('there')} />
      <polyline className="here" points={line('here')} />
    </svg>
  )
}
