import { useState } from 'react'
import { useSessionPolling } from '../../src/react/index.js'
import { BlockDisplay, LoadingIndicator, sessionId } from './surroundings.js'

// Unchanged from the specification, up to the end mark.
function ChatInterface() {
  const [currentTurnId, setCurrentTurnId] = useState<string>();

  const { data: turn, isPolling } = useSessionPolling({
    sessionId,
    turnId: currentTurnId,
    enabled: !!currentTurnId,
    onComplete: (turn) => {
      // Display completed response
      setCurrentTurnId(undefined);
    },
    onError: (error) => {
      // Show error message
      console.error('Turn failed:', error);
    }
  });

  // Show streaming blocks as they arrive
  return (
    <div>
      {turn?.blocks.map(block => (
        <BlockDisplay key={block.id} block={block} />
      ))}
      {isPolling && <LoadingIndicator />}
    </div>
  );
}
// End mark.

export { ChatInterface }
