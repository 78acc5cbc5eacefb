/** Under this name the sample agent writes. */
export const AGENT_NAME = 'Scribe'
