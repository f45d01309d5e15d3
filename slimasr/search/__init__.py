"""Search: propose subnets, measure them on the dev set, keep the Pareto front of WER and cost."""
