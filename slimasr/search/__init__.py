"""Search: propose subnets, measure them on the dev set, keep the front of WER against cost."""
