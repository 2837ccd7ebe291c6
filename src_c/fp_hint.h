/* How long an index of a kernel took last time: so that a loop of a microsecond wakes nobody, and one of hours does at once.
 *
 * A small table of the process, written and read by any thread. A hint may be wrong, overwritten or forgotten at any
 * time; it decides when helpers are called, never what is computed.
 */
#ifndef FP_HINT_H
#define FP_HINT_H

#define FP_HINT_UNKNOWN (-1.0)

double fp_hint_recall(const void *key);
void fp_hint_store(const void *key, double index_ns);

#endif
