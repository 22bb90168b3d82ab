// Package upgrade lets a program be replaced by another version of itself, which
// comes through an [Arrival] from wherever, signed, and is kept beside the installed
// file in the data directory:
//
//	versions/state.json                     what is to run, see state
//	versions/v1.4.0-2c26b46b68ffc68f/NAME   a whole version, the program NAME
//	versions/v1.4.0-2c26b46b68ffc68f/NAME.part   one that is on its way
//
// The program calls [Enter] first of all. There the installed file, which is what
// always starts, becomes the version that is selected, in the same process. A version
// that is new is on trial: it is started at most [MaxBoots] times, and has [TrialTime]
// to prove as healthy as the one before it. Otherwise the one before it, or the
// installed file, comes back by itself; it does, too, when the new one is taken back.
//
// It promises that whenever the machine stops, whatever the new version does and
// whatever becomes of its file, a start leads to a version that has worked; that
// nothing runs which no trusted key has signed under that version, platform and name;
// and that a confirmed version costs no write at a start.
//
// It leaves to others how a version comes to the node, whether the program is healthy,
// and to bring the program to an end before [Slots.Restart].
package upgrade
