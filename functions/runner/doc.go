// Package runner is the worker program that hosts function code outside the
// agent's process, and the wire that it and the agent speak.
//
// [Main] is the worker: it loads one function into an [Engine] and runs
// invocations of it, several at a time. [Link] is the agent's end of the same
// wire; sandboxes build their instances on it.
//
// # Wire
//
// A frame is a length (4 bytes, little endian, of what follows, at most
// [MaxFrame]), a kind (1 byte), the id of an invocation (4 bytes, little endian,
// 0 where it concerns none) and a body. In bodies, numbers are varints and
// strings and bytes are prefixed with their length.
//
//	runner → agent   hello   once, first: protocol, runtimes
//	agent → runner   load    once: runtime, name, code, limits, env, secrets
//	runner → agent   loaded  the answer: nothing, or a failure
//	agent → runner   invoke  an event for the handler
//	runner → agent   op      what a running handler asks for: get, peek, publish now
//	agent → runner   answer  to the op; a handler has one op under way at most
//	runner → agent   log     one line
//	runner → agent   done    the outcome
//
// The runner executes foreign code, so the agent trusts nothing it sends: every
// length is limited, a frame that breaks a rule ends the link, and a done that
// is late, repeated or for an unknown id is counted and ignored.
//
// Nothing waits to fill a batch: who finds the wire free writes at once, and
// what gathers meanwhile goes out together. The runner's thread that reads an
// event also runs it and writes its outcome, so an event costs one wake-up at
// each end; see RATIONALE.md.
package runner
