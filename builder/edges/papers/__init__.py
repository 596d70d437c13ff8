"""What papers are made from: the plan, the layout, and the few files that say more."""
