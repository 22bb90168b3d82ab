// Package sim plays devices: a home and a small factory that speak and obey as
// devices behind Zigbee2MQTT do. They serve the demo, tests and load.
//
// A [World] tells its life by itself (temperatures drift, a door opens, the
// washer draws power) and repeats a story to which some function ought to
// react: someone walks through the dark hall, the press runs hot. It counts the
// reactions and how long they took.
//
// What is said depends on the seed and the time alone. A World knows no broker:
// it is given a function to publish and one to subscribe.
package sim
