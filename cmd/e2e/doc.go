// Package e2e tests sedge whole: the real programs as child processes, real
// brokers, real sockets, killed at random. It holds nothing but tests, among
// them those of the house itself: which package may import which, and how long
// a file may grow. How a part behaves alone is left to the tests beside it, and
// how fast the whole is to the program in folder bench. Folder echoimage holds what
// runs as a function of the runtime image.
package e2e
