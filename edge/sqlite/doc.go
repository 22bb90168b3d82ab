// Package sqlite opens the SQLite files of a node and of the hub, the one way
// that survives power cuts on small boards.
//
// It promises: what [DB.Update] has committed is on disk (write-ahead log,
// synchronous=FULL, one fsync a transaction); there is one writer and a small
// pool of readers, which never wait for each other; the schema is that of the
// migrations handed to [Open], and a file of a newer schema is refused
// untouched; a damaged file is told from a failing disk ([Damaged], [Full]),
// can be set aside ([Quarantine]) and read as far as it goes ([Salvage]).
//
// What the tables mean is left to the packages that own them.
package sqlite
